//! A platform on one machine, each part in a process of its own.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use trunkline_core::{Error, Result};

use crate::config::place::GATEWAY;
use crate::{Config, Part};

/// The parts, and in the environment of each where it finds the others.
pub(super) fn of<'a>(
    config: &Config,
    services: impl Iterator<Item = &'a str>,
    mut program: impl FnMut(&str) -> Command,
) -> Result<Vec<Part>> {
    let here: Vec<&str> = services.filter(|name| config.runs(name)).collect();
    let mut places = Vec::with_capacity(here.len());
    // All are held until all are known, so that no two are the same.
    let mut held = Vec::with_capacity(here.len());
    for name in &here {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(no_port)?;
        let port = listener.local_addr().map_err(no_port)?.port();
        let variable = name.to_ascii_uppercase().replace('-', "_");
        places.push((
            format!("TRUNKLINE__SERVICE__{variable}__URL"),
            format!("http://{}:{port}", Ipv4Addr::LOCALHOST),
        ));
        held.push(listener);
    }
    drop(held);
    let mut parts = Vec::with_capacity(here.len() + 1);
    for name in here.into_iter().chain([GATEWAY]) {
        let mut command = program(name);
        command.envs(places.iter().map(|(name, value)| (name, value)));
        if name != GATEWAY {
            // The console asks each at the address of its service.
            command.env("TRUNKLINE__ADMIN__ADDRESS", "127.0.0.1:0");
        }
        parts.push(Part::new(name.to_owned(), command));
    }
    Ok(parts)
}

fn no_port(error: std::io::Error) -> Error {
    Error::unavailable("port_missing", "no port is free for a service").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_told_where_the_others_are() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[service.far]\nurl = \"http://far.shop:7001\"\n";
        std::fs::write(file.path(), text).unwrap();
        let config = Config::load(Some(file.path()), []).unwrap();
        let mut asked = Vec::new();
        let services = ["order-service", "far", "cart"];
        let parts = of(&config, services.into_iter(), |name| {
            asked.push(name.to_owned());
            Command::new("true")
        });
        assert_eq!(parts.unwrap().len(), 3);
        assert_eq!(asked, ["order-service", "cart", "gateway"]);
    }
}
