//! Redis for the tests: found, or installed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::debian;

/// The oldest version that the transport speaks to.
const MAJOR_MIN: u32 = 7;

/// Makes sure that there is a server to start. The tests start their own, each on a port of its own.
pub(crate) fn ensure(_root: &Path) -> Result<()> {
    let missing = "the tests need Redis 7.0 or later";
    if let Some(version) = version() {
        return accept(&version).context(missing);
    }
    debian::install(&["redis-server"], missing)?;
    match version() {
        Some(version) => accept(&version).context(missing),
        None => bail!("{missing}: the package was installed, and still there is no redis-server"),
    }
}

/// What `redis-server --version` says: `Redis server v=7.0.15 sha=…`.
fn version() -> Option<String> {
    let output = Command::new("redis-server")
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="));
    version.map(str::to_owned)
}

fn accept(version: &str) -> Result<()> {
    let major = version
        .split('.')
        .next()
        .and_then(|text| text.parse::<u32>().ok());
    if major.is_none_or(|major| major < MAJOR_MIN) {
        bail!("found redis-server {version}");
    }
    eprintln!("found redis-server {version}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_server_is_not_accepted() {
        assert!(accept("7.0.15").is_ok());
        assert!(accept("8.2.1").is_ok());
        assert!(accept("6.2.0").is_err());
        assert!(accept("").is_err());
    }
}
