//! The `trunkline` command: looks into a running platform and steers it, over its admin address.
//!
//! # Exit codes
//! 0: done. 1: the platform refused, or is unhealthy. 2: the command line is wrong. 3: the platform can't be
//! reached.

mod args;
mod client;
mod commands;
mod conform;
mod table;

use std::io;
use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

use crate::args::{Args, Command};
use crate::client::Client;
use crate::commands::Failure;

/// A request through the gateway takes some thirty pieces of memory, some of them of kilobytes.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    if let Command::Conform(engine) = args.command {
        // Each case has a runtime of its own.
        return conform::run(engine);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime
        .map_err(|error| Failure::Broken(error.into()))
        .and_then(|runtime| runtime.block_on(run(args)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => end(&failure),
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    let client = Client::new(&args.admin, args.token.as_deref())?;
    commands::run(&client, args.command, args.token, args.json).await
}

fn end(failure: &Failure) -> ExitCode {
    // Whoever reads our output has seen enough.
    if let Failure::Broken(error) = failure
        && let Some(error) = error.downcast_ref::<io::Error>()
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        return ExitCode::SUCCESS;
    }
    eprintln!("trunkline: {failure}");
    ExitCode::from(failure.exit_code())
}
