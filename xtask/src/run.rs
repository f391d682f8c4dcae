//! The steps of the one test command, and what they came to.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::engines::Found;
use crate::{engines, fuzz, guide, postgres, tidy};

/// The platforms, which know every engine by a feature of its name.
const PLATFORMS: &[&str] = &["diboas", "retail-erp", "storefront", "tablium"];

/// How long each target is fuzzed.
const FUZZ_SECONDS: u32 = 15;

/// One step and how it ended.
struct Step {
    name: &'static str,
    passed: bool,
    took: Duration,
}

/// How many tests passed and failed, by the words of the test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

/// Runs every step, whatever becomes of the one before, and sums up. The last line is the count of tests.
pub(crate) fn test(root: &Path) -> Result<bool> {
    let mut steps = Vec::new();
    let mut count = Count::default();
    step(&mut steps, "postgresql", || {
        postgres::ensure().map(|()| true)
    });
    let required = std::env::var("TRUNKLINE_REQUIRE").unwrap_or_default();
    engines::check(&required)?;
    let mut scope = Scope::default();
    for engine in &engines::ALL {
        step(&mut steps, engine.name, || {
            let found = engine.ensure(root, &required)?;
            scope.take(engine.name, engine.is_bus, found);
            Ok(true)
        });
    }
    step(&mut steps, "compiler", || fuzz::ensure().map(|()| true));
    step(&mut steps, "format", || {
        cargo(root, &["fmt", "--all", "--check"])
    });
    step(&mut steps, "tidy", || tidy(root));
    step(&mut steps, "lints", || {
        let lints = ["clippy", "--all-targets", "--locked"];
        cargo(root, &scope.arguments(&lints, &["--", "-D", "warnings"]))
    });
    step(&mut steps, "documentation", || {
        cargo(
            root,
            &scope.arguments(&["doc", "--no-deps", "--locked"], &[]),
        )
    });
    step(&mut steps, "tests", || tests(root, &scope, &mut count));
    step(&mut steps, "fuzz", || fuzz::run(root, FUZZ_SECONDS));
    step(&mut steps, "guide", || guide::check(root));
    eprintln!();
    for step in &steps {
        let word = if step.passed { "ok" } else { "FAILED" };
        eprintln!(
            "{:<14} {word:<7} {:>6.1} s",
            step.name,
            step.took.as_secs_f64()
        );
    }
    for (engine, why) in &scope.left_out {
        eprintln!("{engine:<14} ignored: its tests did not run, for {why}");
    }
    let mut out = std::io::stdout();
    writeln!(out, "{} passed, {} failed", count.passed, count.failed)?;
    Ok(steps.iter().all(|step| step.passed) && count.failed == 0)
}

/// What is built and tested: the whole workspace, but for engines that can't be had.
#[derive(Debug, Default)]
struct Scope {
    ready: Vec<&'static str>,
    left_out: Vec<(&'static str, String)>,
}

/// What is left out of the first build, and needs no server.
const FEATURES: [&str; 3] = ["trunkline/dns", "trunkline/grpc", "trunkline/tls"];

impl Scope {
    fn take(&mut self, engine: &'static str, is_bus: bool, found: Found) {
        match found {
            Found::Ready if is_bus => self.ready.push(engine),
            Found::Ready => {}
            Found::LeftOut(why) => {
                eprintln!("{engine} is left out: {why}");
                self.left_out.push((engine, why));
            }
        }
    }

    /// A command of cargo's for all of it.
    fn arguments(&self, command: &[&str], last: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        all.push("--workspace".to_owned());
        for (engine, _) in &self.left_out {
            all.extend(["--exclude".to_owned(), format!("trunkline-{engine}")]);
        }
        for engine in &self.ready {
            for platform in PLATFORMS {
                all.extend(["--features".to_owned(), format!("{platform}/{engine}")]);
            }
        }
        for feature in FEATURES {
            all.extend(["--features".to_owned(), feature.to_owned()]);
        }
        all.extend(last.iter().map(|word| (*word).to_owned()));
        all
    }
}

/// Makes sure of every server, and says of each what became of it.
pub(crate) fn engines(root: &Path) -> Result<bool> {
    postgres::ensure()?;
    for engine in &engines::ALL {
        if let Found::LeftOut(why) = engine.ensure(root, "")? {
            eprintln!("{} can't be had: {why}", engine.name);
        }
    }
    Ok(true)
}

/// Checks the structure of the repository.
pub(crate) fn tidy(root: &Path) -> Result<bool> {
    let problems = tidy::check(root)?;
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    eprintln!("tidy: {} problems", problems.len());
    Ok(problems.is_empty())
}

fn step(steps: &mut Vec<Step>, name: &'static str, work: impl FnOnce() -> Result<bool>) {
    eprintln!("\n== {name}");
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a step takes is the machine's time, and there is no runtime here"
    )]
    let began = Instant::now();
    let passed = work().unwrap_or_else(|error| {
        eprintln!("{name}: {error:#}");
        false
    });
    steps.push(Step {
        name,
        passed,
        took: began.elapsed(),
    });
}

pub(crate) fn command(root: &Path, args: &[impl AsRef<OsStr>]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(args)
        .current_dir(root)
        .env("RUSTDOCFLAGS", "-D warnings")
        .stdin(Stdio::null());
    command
}

fn cargo(root: &Path, args: &[impl AsRef<OsStr>]) -> Result<bool> {
    let status = command(root, args).status().context("cargo")?;
    Ok(status.success())
}

/// Runs all tests, passes on what they say and counts.
fn tests(root: &Path, scope: &Scope, count: &mut Count) -> Result<bool> {
    let args = scope.arguments(&["test", "--no-fail-fast", "--locked"], &[]);
    let observed = guide::folder(root);
    match std::fs::remove_dir_all(&observed) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut child = command(root, &args)
        .env(guide::FOLDER, observed)
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo test")?;
    let said = child.stdout.take().context("cargo test says nothing")?;
    let mut out = std::io::stdout();
    for line in BufReader::new(said).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        writeln!(out, "{line}")?;
        count.add(&line);
    }
    Ok(child.wait()?.success())
}

impl Count {
    /// Counts a line such as `test result: ok. 14 passed; 0 failed; 0 ignored; ...`.
    fn add(&mut self, line: &str) {
        let Some((_, result)) = line.split_once("test result: ") else {
            return;
        };
        let number = |word: &str| {
            let (before, _) = result.split_once(word)?;
            before
                .trim_end()
                .rsplit([' ', ';'])
                .next()?
                .parse::<u64>()
                .ok()
        };
        self.passed += number(" passed").unwrap_or(0);
        self.failed += number(" failed").unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_neither_built_nor_tested() {
        let mut scope = Scope::default();
        scope.take("redis", true, Found::Ready);
        scope.take("device", false, Found::Ready);
        scope.take(
            "kafka",
            true,
            Found::LeftOut("no registry answers".to_owned()),
        );
        assert_eq!(
            scope.arguments(&["test"], &["--", "-q"]).join(" "),
            "test --workspace --exclude trunkline-kafka --features diboas/redis \
             --features retail-erp/redis \
             --features storefront/redis --features tablium/redis --features trunkline/dns \
             --features trunkline/grpc --features trunkline/tls -- -q"
        );
    }

    #[test]
    fn results_are_summed() {
        let mut count = Count::default();
        for line in [
            "running 3 tests",
            "test result: ok. 14 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.10s",
            "test it::says_so ... ok",
            "test result: FAILED. 32 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out",
        ] {
            count.add(line);
        }
        assert_eq!(
            count,
            Count {
                passed: 46,
                failed: 1
            }
        );
    }
}
