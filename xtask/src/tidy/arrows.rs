//! The arrows of the map: which crate may stand on which.

use anyhow::{Context, Result};
use toml::Table;

use super::File;

const CORE: &[&str] = &["core", "telemetry"];

/// Each crate of ours and those of ours that it may name among its dependencies; arrows point downwards only.
/// Dependencies of tests are free.
const MAP: &[(&str, &[&[&str]])] = &[
    ("macros", &[]),
    ("core", &[&["macros"]]),
    ("telemetry", &[&["core"]]),
    ("security", &[&["core"]]),
    ("bus", &[CORE]),
    ("saga", &[&["core"]]),
    ("call", &[CORE]),
    ("realtime", &[&["core"]]),
    ("log", &[CORE, &["bus"]]),
    ("redis", &[CORE, &["bus", "call", "realtime"]]),
    ("rabbitmq", &[CORE, &["bus"]]),
    ("kafka", &[CORE, &["bus"]]),
    ("nats", &[CORE, &["bus"]]),
    ("store", &[CORE, &["bus", "saga", "security"]]),
    ("device", &[CORE, &["bus"]]),
    ("gateway", &[CORE, &["call", "security"]]),
    (
        "console",
        &[CORE, &["bus", "call", "saga", "security", "store"]],
    ),
    (
        "service",
        &[
            CORE,
            &[
                "bus", "call", "console", "device", "gateway", "kafka", "log", "nats", "rabbitmq",
                "realtime", "redis", "saga", "security", "store",
            ],
        ],
    ),
    (
        "",
        &[
            CORE,
            &[
                "bus", "call", "device", "gateway", "log", "realtime", "saga", "security",
                "service", "store",
            ],
        ],
    ),
    ("testkit", &[CORE, &["bus", "saga", "store"]]),
    ("testproto", &[]),
    // To a platform it speaks HTTP, and knows nothing of what answers; files of topics it applies to engines, and it runs a
    // gateway alone.
    (
        "cli",
        &[
            CORE,
            &[
                "bus", "call", "gateway", "kafka", "nats", "rabbitmq", "redis", "security",
                "testkit",
            ],
        ],
    ),
];

pub(super) fn check(files: &[File]) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for file in files {
        let Some(home) = file.path.strip_suffix("/Cargo.toml") else {
            continue;
        };
        let manifest: Table = file.text.parse().with_context(|| file.path.clone())?;
        // The benchmarks are a workspace of their own, and may use whatever they measure.
        if manifest.contains_key("package") && !home.starts_with("benches") {
            problems.extend(lints(&file.path, &manifest));
            problems.extend(arrows(&file.path, home, &manifest));
        }
    }
    Ok(problems)
}

fn lints(path: &str, manifest: &Table) -> Option<String> {
    let lints = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"));
    let inherits = lints.and_then(toml::Value::as_bool) == Some(true);
    (!inherits).then(|| format!("{path}: expected `[lints] workspace = true`"))
}

fn arrows(path: &str, home: &str, manifest: &Table) -> Vec<String> {
    let allowed = match allowed(home) {
        Ok(allowed) => allowed,
        Err(problem) => return vec![format!("{path}: {problem}")],
    };
    let named = ["dependencies", "build-dependencies"];
    let named = named
        .iter()
        .filter_map(|kind| manifest.get(*kind)?.as_table());
    named
        .flat_map(Table::keys)
        .filter_map(|name| ours(name))
        .filter(|name| !allowed.contains(name))
        .map(|name| {
            let name = format!("trunkline-{name}");
            let name = name.trim_end_matches('-');
            format!("{path}: the map has no arrow from here to `{name}`")
        })
        .collect()
}

/// What the crate at `home` may stand on.
fn allowed(home: &str) -> Result<Vec<&'static str>, &'static str> {
    if home == "xtask" {
        return Ok(Vec::new());
    }
    if home.starts_with("platforms/") || home.starts_with("examples/") {
        return Ok(vec![""]);
    }
    if home == "fuzz" {
        return Ok(vec!["gateway"]);
    }
    let name = home.strip_prefix("crates/").and_then(ours);
    let found = MAP.iter().find(|(known, _)| Some(*known) == name);
    found
        .map(|(_, groups)| groups.iter().copied().flatten().copied().collect())
        .ok_or("the map of xtask/src/tidy/arrows.rs does not know this crate")
}

/// The name of a crate of ours without its first word; the facade's is empty.
fn ours(name: &str) -> Option<&str> {
    match name.strip_prefix("trunkline")? {
        "" => Some(""),
        rest => rest.strip_prefix('-'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, dependencies: &str) -> Vec<String> {
        let head = "[package]\nname = \"a\"\n[lints]\nworkspace = true\n";
        let file = File {
            path: path.to_owned(),
            text: format!("{head}{dependencies}"),
        };
        check(&[file]).unwrap()
    }

    #[test]
    fn an_arrow_upwards_is_told() {
        let path = "crates/trunkline-bus/Cargo.toml";
        let up = "[dependencies]\ntrunkline-store = { workspace = true }\n";
        assert_eq!(problems(path, up).len(), 1);
        let down = "[dependencies]\ntrunkline-core = { workspace = true }\nserde = \"1\"\n";
        assert!(problems(path, down).is_empty());
        let tests = "[dev-dependencies]\ntrunkline-testkit = { workspace = true }\n";
        assert!(problems(path, tests).is_empty());
        let facade = "[dependencies]\ntrunkline = { workspace = true }\n";
        assert_eq!(problems(path, facade).len(), 1);
        assert!(problems("platforms/storefront/Cargo.toml", facade).is_empty());
        assert_eq!(problems("platforms/storefront/Cargo.toml", up).len(), 1);
    }

    #[test]
    fn a_crate_that_nobody_drew_and_lints_that_nobody_took_are_told() {
        assert_eq!(problems("crates/trunkline-else/Cargo.toml", "").len(), 1);
        let file = File {
            path: "crates/trunkline-core/Cargo.toml".to_owned(),
            text: "[package]\nname = \"trunkline-core\"\n".to_owned(),
        };
        assert_eq!(check(&[file]).unwrap().len(), 1);
    }

    #[test]
    fn the_map_has_no_way_back_up() {
        for (index, (name, groups)) in MAP.iter().enumerate() {
            for below in groups.iter().copied().flatten() {
                let place = MAP.iter().position(|(known, _)| known == below);
                assert!(
                    place.is_some_and(|place| place < index),
                    "{name} to {below}"
                );
            }
        }
    }
}
