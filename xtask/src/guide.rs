//! The table of capabilities in the guide: what the conformance suite observed of each engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The environment variable by which the suite learns where to write what it observed.
pub(crate) const FOLDER: &str = "TRUNKLINE_OBSERVED";

const GUIDE: &str = "docs/guides/choose-an-engine.md";
const BEGIN: &str = "<!-- observed by the conformance suite; `cargo xtask guide` writes it -->\n";
const END: &str = "<!-- end -->\n";

/// Engines by the suite's names, and how they are told.
const ENGINES: [(&str, &str); 7] = [
    ("memory", "`memory:`"),
    ("log", "`log:`"),
    ("redis", "Redis Streams"),
    ("redis-pubsub", "Redis Pub/Sub"),
    ("rabbitmq", "RabbitMQ"),
    ("kafka", "Kafka"),
    ("nats", "NATS JetStream"),
];

/// What is observed, and its column.
const COLUMNS: [(&str, &str); 8] = [
    ("durable", "durable"),
    ("ordered_by_key", "order per key"),
    ("groups", "groups"),
    ("replay", "replay"),
    ("atomic_batch", "a batch whole or not at all"),
    (
        "a_killed_server_loses_nothing",
        "lost when the server is killed",
    ),
    ("a_paused_server_loses_nothing", "paused"),
    ("a_connection_cut_in_a_batch_loses_nothing", "cut off"),
];

/// Where the suite writes, below the folder of the build.
pub(crate) fn folder(root: &Path) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target
        .unwrap_or_else(|| root.join("target"))
        .join("conformance")
}

/// Whether the guide says what was observed. An engine that was not run keeps its row.
pub(crate) fn check(root: &Path) -> Result<bool> {
    let (was, is) = both(root)?;
    if was != is {
        eprintln!("{GUIDE}: its table is not what the suite observed; run `cargo xtask guide`");
    }
    Ok(was == is)
}

/// Writes what was observed by the last run into the guide.
pub(crate) fn write(root: &Path) -> Result<bool> {
    let (was, is) = both(root)?;
    if was != is {
        std::fs::write(root.join(GUIDE), is).with_context(|| format!("writing {GUIDE}"))?;
    }
    Ok(true)
}

/// The guide as it stands, and as it should.
fn both(root: &Path) -> Result<(String, String)> {
    let text = std::fs::read_to_string(root.join(GUIDE)).with_context(|| GUIDE.to_owned())?;
    let mut observed = BTreeMap::new();
    for (engine, _) in ENGINES {
        let file = folder(root).join(format!("{engine}.tsv"));
        if let Ok(seen) = std::fs::read_to_string(&file) {
            observed.insert(engine, seen);
        }
    }
    if observed.is_empty() {
        bail!("the suite has not run: expected what it observed in target/conformance");
    }
    let should = put(&text, &observed)?;
    Ok((text, should))
}

/// The guide with the table put into it.
fn put(text: &str, observed: &BTreeMap<&str, String>) -> Result<String> {
    let parts = text
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let Some((before, (old, after))) = parts else {
        bail!("{GUIDE}: expected the lines `{BEGIN}` and `{END}`");
    };
    let heads: Vec<&str> = COLUMNS.iter().map(|(_, head)| *head).collect();
    let mut table = format!("| | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(8));
    for (engine, told) in ENGINES {
        let begin = format!("| {told} |");
        match observed.get(engine) {
            Some(seen) => {
                let cells: Vec<&str> = COLUMNS.iter().map(|(what, _)| cell(what, seen)).collect();
                table += &format!("{begin} {} |\n", cells.join(" | "));
            }
            None => {
                let row = old.lines().find(|line| line.starts_with(&begin));
                table.extend(row.map(|row| format!("{row}\n")));
            }
        }
    }
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

fn cell(what: &str, seen: &str) -> &'static str {
    let mut lines = seen.lines().filter_map(|line| line.split_once('\t'));
    let found = lines.find(|(name, _)| *name == what).map(|(_, word)| word);
    let is_fault = what.ends_with("_loses_nothing");
    match found {
        Some("yes") if is_fault => "nothing",
        None if is_fault => "",
        Some("yes") => "yes",
        Some("no") => "no",
        Some("said") => "no (unproven)",
        _ => "FAILED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_observed_replaces_its_row_alone() {
        let text = format!("# Guide\n{BEGIN}| old |\n| Kafka | as before |\n{END}rest\n");
        let seen = "durable\tno\nreplay\tyes\ngroups\tfailed\natomic_batch\tsaid\n";
        let observed = BTreeMap::from([("memory", seen.to_owned())]);
        let now = put(&text, &observed).unwrap();
        assert!(now.starts_with("# Guide\n") && now.ends_with("rest\n"));
        let row = "| `memory:` | no | FAILED | FAILED | yes | no (unproven) |  |  |  |\n";
        assert!(now.contains(row), "{now}");
        assert!(now.contains("| Kafka | as before |\n"), "{now}");
        assert!(!now.contains("| old |") && !now.contains("Redis"), "{now}");
        assert!(put("no marks", &observed).is_err());
    }
}
