//! The servers that events travel on, for the tests: found, or installed.

mod kafka;
mod mosquitto;
mod nats;
mod nginx;
mod node;
mod python;
mod rabbitmq;
mod redis;

use std::path::Path;

use anyhow::{Result, bail};

/// An engine that the tests run on.
pub(crate) struct Engine {
    /// Its name: of its crate behind `trunkline-`, of its feature, and in `TRUNKLINE_REQUIRE`.
    pub(crate) name: &'static str,
    /// Whether events travel on it, so that a platform has it as a feature.
    pub(crate) is_bus: bool,
    ensure: fn(&Path) -> Result<()>,
}

pub(crate) const ALL: [Engine; 7] = [
    Engine {
        name: "redis",
        is_bus: true,
        ensure: redis::ensure,
    },
    Engine {
        name: "rabbitmq",
        is_bus: true,
        ensure: rabbitmq::ensure,
    },
    Engine {
        name: "nats",
        is_bus: true,
        ensure: nats::ensure,
    },
    Engine {
        name: "kafka",
        is_bus: true,
        ensure: kafka::ensure,
    },
    Engine {
        name: "device",
        is_bus: false,
        ensure: mosquitto::ensure,
    },
    Engine {
        name: "gateway",
        is_bus: false,
        ensure: nginx::ensure,
    },
    Engine {
        name: "realtime",
        is_bus: false,
        ensure: node::ensure,
    },
];

/// What became of getting an engine.
pub(crate) enum Found {
    /// It is there.
    Ready,
    /// It can't be had, and nobody requires it: its tests are left out, for this reason.
    LeftOut(String),
}

impl Engine {
    /// Makes sure that the engine is there, and what its tests speak to it with.
    ///
    /// # Errors
    /// When it can't be had and `required` names it.
    pub(crate) fn ensure(&self, root: &Path, required: &str) -> Result<Found> {
        let got = (self.ensure)(root).and_then(|()| python::ensure(root));
        match got {
            Ok(()) => Ok(Found::Ready),
            Err(error) if names(required).any(|name| name == self.name) => Err(error),
            Err(error) => Ok(Found::LeftOut(format!("{error:#}"))),
        }
    }
}

fn names(required: &str) -> impl Iterator<Item = &str> {
    required
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

/// Checks that `TRUNKLINE_REQUIRE` names engines.
pub(crate) fn check(required: &str) -> Result<()> {
    let known = ALL.map(|engine| engine.name);
    match names(required).find(|name| !known.contains(name)) {
        Some(name) => bail!(
            "TRUNKLINE_REQUIRE names `{name}`; expected {}",
            known.join(", ")
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISSING: Engine = Engine {
        name: "missing",
        is_bus: true,
        ensure: |_| bail!("no registry answers"),
    };

    #[test]
    fn what_is_missing_is_left_out_unless_it_is_required() {
        let root = Path::new("/");
        let left_out = MISSING.ensure(root, "redis, kafka").unwrap();
        assert!(matches!(left_out, Found::LeftOut(why) if why == "no registry answers"));
        assert!(MISSING.ensure(root, "redis, missing").is_err());
        check("redis, kafka").unwrap();
        check("").unwrap();
        let error = check("kafak").unwrap_err().to_string();
        assert!(
            error.contains("kafak") && error.contains("kafka"),
            "{error}"
        );
    }
}
