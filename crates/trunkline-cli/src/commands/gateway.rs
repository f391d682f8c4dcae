//! Configurations of the gateway.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;
use trunkline_core::Env;
use trunkline_gateway::Config;

use super::{Done, Failure};

/// Says what a file has, or everything that is wrong with it.
pub(super) fn check(file: &Path, as_json: bool) -> Done {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("{name} can't be read"))?;
    let config = Config::check(&name, &text, &Env::system());
    let config = config.map_err(|error| Failure::Broken(anyhow::Error::msg(error.to_string())))?;
    let routes = config.services.iter().map(|service| service.routes.len());
    let plugins = config.services.iter().map(|service| {
        let inside = service.routes.iter().map(|route| route.plugins.len());
        service.plugins.len() + inside.sum::<usize>()
    });
    let counts = [
        ("services", config.services.len()),
        ("routes", routes.sum()),
        ("upstreams", config.upstreams.len()),
        ("consumers", config.consumers.len()),
        ("plugins", config.plugins.len() + plugins.sum::<usize>()),
    ];
    if as_json {
        let counts = counts.map(|(what, count)| (what.to_owned(), json!(count)));
        return super::print(&counts.into_iter().collect());
    }
    let counts = counts.map(|(what, count)| format!("{count} {what}"));
    writeln!(io::stdout(), "{name} is right: {}", counts.join(", "))?;
    Ok(())
}
