//! A platform on one machine, each part in a process of its own.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use trunkline_core::{Error, Result};

use crate::config::place::{GATEWAY, variable};
use crate::{Config, Part};

/// Ports of parts are from here to [`END`]: below those that systems give to whoever asks for any, a connection's own end
/// included. One of those could be somebody else's before a part listens on it, or while it is down between two starts.
const FIRST: u16 = 20_000;
const END: u16 = 32_000;
/// Platforms that are started one after the other begin far apart.
const SPREAD: u16 = 10_000;
const STRIDE: u32 = 7_919;

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
    let begin = std::process::id().wrapping_mul(STRIDE) % u32::from(SPREAD);
    let mut place = FIRST + u16::try_from(begin).unwrap_or_default();
    // The gateway has an address of its own for others where they fetch its keys.
    let gateway = config.signs().then_some(GATEWAY);
    for name in here.iter().copied().chain(gateway) {
        let listener = free(&mut place)?;
        let port = listener.local_addr().map_err(no_port)?.port();
        places.push((
            variable(name, "URL"),
            format!("{}://{}:{port}", config.scheme(), Ipv4Addr::LOCALHOST),
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

/// Listens on the next port from `place` on that nobody has, and moves on behind it.
fn free(place: &mut u16) -> Result<TcpListener> {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, *place));
        *place += 1;
        match listener {
            Ok(listener) => return Ok(listener),
            Err(error) if *place >= END => return Err(no_port(error)),
            Err(_) => {}
        }
    }
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
