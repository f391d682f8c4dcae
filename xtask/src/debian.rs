//! Programs from Debian's packages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Where a program is, if it is in the PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.exists())
}

/// While it says 101, Debian's packages start no service.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const NO_SERVICE: &str = "#!/bin/sh\nexit 101\n";

/// Installs packages, without those that they only recommend, and without starting their services: the tests start
/// servers of their own. `what_for` says who wants them.
pub(crate) fn install(packages: &[&str], what_for: &str) -> Result<()> {
    let told = || {
        format!(
            "{what_for}, in Debian the package `{}`",
            packages.join("` and `")
        )
    };
    if !is_root()? || !Path::new("/usr/bin/apt-get").exists() {
        bail!("{}, which only root can install with apt-get", told());
    }
    eprintln!("installing Debian's {}", packages.join(", "));
    apt(&["update"]).with_context(told)?;
    let install = ["install", "--yes", "--no-install-recommends"];
    let policy = Policy::forbid(Path::new(POLICY))?;
    let installed = apt(&[&install, packages].concat());
    policy.put_back()?;
    installed.with_context(told)
}

/// What stood in the place of the policy, until it is put back.
struct Policy {
    path: PathBuf,
    before: Option<(Vec<u8>, fs::Permissions)>,
}

impl Policy {
    /// Forbids services to start.
    fn forbid(path: &Path) -> Result<Self> {
        let before = match fs::read(path) {
            Ok(text) => Some((text, fs::metadata(path)?.permissions())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).context("reading policy-rc.d"),
        };
        let policy = Self {
            path: path.to_owned(),
            before,
        };
        fs::write(path, NO_SERVICE).context("writing policy-rc.d")?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        Ok(policy)
    }

    fn put_back(self) -> Result<()> {
        match self.before {
            None => fs::remove_file(&self.path).context("removing policy-rc.d"),
            Some((text, permissions)) => {
                fs::write(&self.path, text).context("putting policy-rc.d back")?;
                Ok(fs::set_permissions(&self.path, permissions)?)
            }
        }
    }
}

fn is_root() -> Result<bool> {
    let id = Command::new("id").arg("-u").output().context("id -u")?;
    Ok(id.stdout.trim_ascii() == b"0")
}

fn apt(args: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status()
        .context("apt-get")?;
    if !status.success() {
        bail!("apt-get {} failed: {status}", args.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_put_back_as_it_was() {
        let folder = std::env::temp_dir().join(format!("trunkline-policy-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("policy-rc.d");
        let policy = Policy::forbid(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), NO_SERVICE);
        policy.put_back().unwrap();
        assert!(!path.exists());
        fs::write(&path, "mine").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        Policy::forbid(&path).unwrap().put_back().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        fs::remove_dir_all(&folder).unwrap();
    }
}
