//! The one test command.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{postgres, tidy};

/// Runs every check, and tells at the end how many tests passed.
pub(crate) fn run() -> Result<()> {
    postgres::ensure()?;
    step("structure")?;
    tidy::run()?;
    cargo("format", &["fmt", "--all", "--check"])?;
    let lints = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    cargo("lints", &lints)?;
    step("tests")?;
    let counted = tests()?;
    println!(
        "\n{} passed, {} failed, {} skipped",
        counted.passed, counted.failed, counted.ignored
    );
    if counted.failed > 0 || !counted.well {
        bail!("some tests failed; their output is above");
    }
    Ok(())
}

fn step(name: &str) -> Result<()> {
    println!("== {name}");
    Ok(())
}

fn cargo(name: &str, arguments: &[&str]) -> Result<()> {
    step(name)?;
    let status = Command::new(env!("CARGO"))
        .args(arguments)
        .status()
        .context("cargo can't be run")?;
    if !status.success() {
        bail!("{name}: `cargo {}` failed", arguments.join(" "));
    }
    Ok(())
}

#[derive(Default)]
struct Counted {
    passed: u64,
    failed: u64,
    ignored: u64,
    well: bool,
}

fn tests() -> Result<Counted> {
    let mut child = Command::new(env!("CARGO"))
        .args(["test", "--workspace", "--no-fail-fast"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo can't be run")?;
    let output = child.stdout.take().context("cargo has an output")?;
    let mut counted = Counted::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if let Some(rest) = line.strip_prefix("test result: ") {
            counted.add(rest);
        }
    }
    counted.well = child.wait()?.success();
    Ok(counted)
}

impl Counted {
    /// Reads `ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, rest: &str) {
        for part in rest.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(count), Some(what)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(count) = count.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let mut counted = Counted::default();
        counted
            .add("ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.1s");
        counted.add("FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!((counted.passed, counted.failed, counted.ignored), (4, 2, 1));
    }
}
