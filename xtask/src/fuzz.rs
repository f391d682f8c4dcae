//! Fuzzing, bounded: what reads bytes from outside is fed with what a fuzzer makes of some seeds.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::debian;
use crate::run::command;

/// The targets, each a program of `fuzz/`.
const TARGETS: [&str; 3] = ["config", "front", "router"];
/// Inputs above this teach nothing that smaller ones don't.
const INPUT_BYTES_MAX: u32 = 4_096;

/// Builds the targets so that the fuzzer sees which branches were taken, and runs each for some seconds. What it has learned stays
/// in `target/fuzz`, and so does an input that breaks something.
pub(crate) fn run(root: &Path, seconds: u32) -> Result<bool> {
    ensure()?;
    let mut build = vec!["build", "--workspace", "--locked"];
    for target in TARGETS {
        build.extend(["--bin", target]);
    }
    let built = command(root, &build)
        .env("RUSTC_WORKSPACE_WRAPPER", root.join("fuzz/rustc.sh"))
        .status()
        .context("cargo build")?;
    if !built.success() {
        return Ok(false);
    }
    let mut passed = true;
    for target in TARGETS {
        passed &= feed(root, target, seconds)?;
    }
    Ok(passed)
}

/// Makes sure of the compiler that the fuzzer is built with.
pub(crate) fn ensure() -> Result<()> {
    if debian::find("c++").is_some() {
        return Ok(());
    }
    debian::install(&["g++"], "the fuzzer is built with a compiler for C++")
}

fn feed(root: &Path, target: &str, seconds: u32) -> Result<bool> {
    let build =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let folder = build.join("fuzz").join(target);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let program = build.join("debug").join(target);
    if !program.exists() {
        bail!("{} was not built", program.display());
    }
    let log = build.join("fuzz").join(format!("{target}.log"));
    let file = std::fs::File::create(&log).with_context(|| log.display().to_string())?;
    let status = std::process::Command::new(&program)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"])
        .arg(format!(
            "-artifact_prefix={}/{target}-",
            build.join("fuzz").display()
        ))
        .arg(&folder)
        .arg(root.join("fuzz/seeds").join(target))
        .stdin(std::process::Stdio::null())
        .stderr(file)
        .status()
        .with_context(|| program.display().to_string())?;
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let count = said
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    eprintln!(
        "{target}: {} inputs in {seconds} s",
        count.unwrap_or("unknown").trim()
    );
    if !status.success() {
        let end: Vec<&str> = said.lines().rev().take(40).collect();
        for line in end.iter().rev() {
            eprintln!("{line}");
        }
    }
    Ok(status.success() && count.is_some())
}
