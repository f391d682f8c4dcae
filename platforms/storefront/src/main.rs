//! The `storefront` binary.

mod cli;
mod parts;
mod welcome;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use storefront::sandbox::{self, Sandbox};
use storefront::{Store, Watch};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use trunkline::{Env, Error, Result, Secret, Signer, stop_requested, telemetry};

use cli::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => Box::pin(up(cli.up)).await,
        Some(Command::Up(up_again)) => Box::pin(up(up_again)).await,
        Some(Command::Run(run)) => Box::pin(parts::run(run)).await,
        Some(Command::Token(wanted)) => token(&wanted),
        Some(Command::Sandbox {
            listen,
            ledger,
            late_ms,
        }) => {
            let late = Duration::from_millis(late_ms);
            provider(listen, sandbox::Options { ledger, late }).await
        }
        Some(Command::Schemas { write, dir }) => schemas(&dir, write),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody left to tell if this fails.
            drop(writeln!(
                std::io::stderr(),
                "storefront: {}",
                trunkline::report(&error)
            ));
            ExitCode::FAILURE
        }
    }
}

/// Runs the store, and tells what happens to orders, until it is asked to stop.
async fn up(options: cli::Up) -> Result<()> {
    if options.processes {
        return parts::up(options).await;
    }
    let begun = Instant::now();
    let quiet = options.quiet;
    let settings = options.settings();
    let config = settings.load()?;
    telemetry::init_logs(config.log.format, &config.log.filter)?;
    let store = Store::start_platform(settings, config, |platform| platform).await?;
    print(&welcome::text(&store, begun.elapsed())?)?;
    watch(&store, quiet, stop_requested()).await?;
    // It ends in order even where nobody reads of it.
    drop(print(
        "\nThe store ends what it has begun; Ctrl-C again stops it at once.\n",
    ));
    tokio::select! {
        biased;
        again = stop_requested() => again,
        () = store.shutdown() => {
            drop(print("The store is down. The next start goes on from here.\n"));
            Ok(())
        }
    }
}

/// Tells what happens to orders until `stop`.
async fn watch(store: &Store, quiet: bool, stop: impl Future<Output = Result<()>>) -> Result<()> {
    let mut events = store.running().events();
    let mut watch = Watch::default();
    tokio::pin!(stop);
    loop {
        let event = tokio::select! {
            biased;
            stopped = &mut stop => return stopped,
            event = events.recv(), if !quiet => event,
        };
        match event {
            Ok(event) => {
                if let Some(line) = watch.line(&event) {
                    print(&format!("{line}\n"))?;
                }
            }
            Err(RecvError::Lagged(missed)) => print(&format!("... {missed} events not shown\n"))?,
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

fn token(wanted: &cli::Token) -> Result<()> {
    let lifetime = Duration::from_secs(u64::from(wanted.hours) * 3_600);
    let token = storefront::token(&wanted.data, &wanted.user, &wanted.role, lifetime)?;
    print(&format!("{token}\n"))
}

async fn provider(listen: std::net::SocketAddr, options: sandbox::Options) -> Result<()> {
    let listener = sandbox::listen(listen).await?;
    let sandbox = Sandbox::start(listener, options, Env::system())?;
    print(&welcome::sandbox(&sandbox.url()))?;
    stop_requested().await
}

fn schemas(dir: &Path, write: bool) -> Result<()> {
    let env = Env::system();
    let platform = storefront::platform(&Signer::hs256(&Secret::generate(&env)), &env)?;
    if !write {
        platform.schemas(dir).check()?;
        return print("every event fits its schema\n");
    }
    for file in platform.write_schemas(dir)? {
        print(&format!("{}\n", file.display()))?;
    }
    Ok(())
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.map_err(|error| Error::internal("the terminal is gone").with_source(error))
}
