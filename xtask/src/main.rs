//! Checks and chores of the repository: `cargo xtask test`, `cargo xtask tidy`.

mod debian;
mod engines;
mod fuzz;
mod guide;
mod postgres;
mod run;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <command>

  test     everything that has to pass: the servers, format, lints, documentation, tests, tidy
  engines  finds or installs the servers that the tests start
  guide    writes into the guide what the last run of the tests observed of the engines
  fuzz     feeds what reads bytes from outside, for a minute each, or as many SECONDS as are given
  tidy     the structure alone: sizes, dependency arrows, what the documents name
";

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the repository's root");
    let commands: Vec<String> = std::env::args().skip(1).collect();
    let done = match commands.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["test"] => run::test(root),
        ["engines"] => run::engines(root),
        ["guide"] => guide::write(root),
        ["fuzz"] => fuzz::run(root, 60),
        ["fuzz", seconds] if seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0) => {
            fuzz::run(root, seconds.parse().unwrap_or(60))
        }
        ["tidy"] => run::tidy(root),
        ["help" | "--help" | "-h"] => {
            eprint!("{HELP}");
            Ok(true)
        }
        _ => {
            eprint!("expected a command\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
