//! The program of a platform: its command line, its parts in processes of their own, and how it ends.

mod options;
mod parts;
mod settings;
mod token;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use trunkline_core::{Env, Envelope, Error, Result, report};
use trunkline_security::Secret;
use trunkline_telemetry::init_logs;

use crate::config::place::GATEWAY;
use crate::{Config, Kubernetes, Platform, Running, parent_gone, stop_requested};

use options::{Cli, Command, Pods, Run, Up};
pub use settings::Settings;
pub use token::{Token, user_token};

/// A platform that is a program. [`launch`] gives it the commands `up`, `run` and `schemas`; it says what it adds to
/// them, and how it starts.
pub trait Program: Sized + Send {
    /// What it is called, such as `storefront`.
    const NAME: &'static str;
    /// Its version.
    const VERSION: &'static str;
    /// What it is, in a line.
    const ABOUT: &'static str;
    /// What else a user wants to know, below the options.
    const HELP: &'static str;
    /// Files of the data folder that all of its processes share: the key of users' tokens.
    const KEYS: &'static [&'static str] = &["token.secret"];
    /// Its own options of `up` and `run`. Each process of `up --processes` is given them too.
    type Options: Args + Send + Sync;
    /// Its own commands.
    type Command: Subcommand + Send;

    /// What it declares.
    ///
    /// # Errors
    /// What the platform can't be declared with.
    fn platform(config: &Config) -> Result<Platform>;

    /// Starts it, or the part of it that the configuration names; it takes requests when this is done.
    ///
    /// # Errors
    /// What could not be started, and what was expected.
    fn start(options: Self::Options, config: Config) -> impl Future<Output = Result<Self>> + Send;

    /// What runs.
    fn running(&self) -> &Running;

    /// Ends it in order.
    fn shutdown(self) -> impl Future<Output = ()> + Send;

    /// What somebody at a terminal wants to know when it is up: addresses, and what to try.
    ///
    /// # Errors
    /// What can't be told.
    fn welcome(&self) -> Result<String>;

    /// Turns events into lines for somebody at a terminal. By default it tells of none.
    fn watch(&self) -> impl FnMut(&Envelope) -> Option<String> + Send {
        |_| None
    }

    /// Does one of its own commands.
    ///
    /// # Errors
    /// What the command could not do.
    fn command(command: Self::Command) -> impl Future<Output = Result<()>> + Send;
}

/// Does what the command line says; this is all that a platform's `main` has to call.
///
/// # Shape
/// Without a command, or with `up`, everything runs in this process; `up --processes` runs each part in one of its own;
/// `run SERVICE...` runs some parts. A first Ctrl-C (or SIGTERM) ends what was begun and stops, a second stops at once.
pub async fn launch<P: Program>() -> ExitCode {
    let done = match Cli::<P::Options, P::Command>::parse::<P>() {
        Ok((cli, given)) => match cli.command {
            None => Box::pin(up::<P>(cli.up, given)).await,
            Some(Command::Up(again)) => Box::pin(up::<P>(again, given)).await,
            Some(Command::Run(options)) => Box::pin(run::<P>(options)).await,
            Some(Command::Schemas { write, dir }) => schemas::<P>(&dir, write),
            Some(Command::Kubernetes(pods)) => kubernetes::<P>(pods),
            Some(Command::Own(command)) => Box::pin(P::command(command)).await,
        },
        // It is told as clap does it: help is no mistake.
        Err(error) => error.exit(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("{}: {}\n", P::NAME, report(&error));
            // There is nobody left to tell if this fails.
            drop(std::io::stderr().write_all(text.as_bytes()));
            ExitCode::FAILURE
        }
    }
}

/// Runs everything here, or each part in a process of its own, until it is asked to stop.
async fn up<P: Program>(options: Up<P::Options>, given: Vec<std::ffi::OsString>) -> Result<()> {
    let begun = Instant::now();
    let config = loaded(options.how.settings(Vec::new()))?;
    if options.processes {
        return parts::run::<P>(&config, &given).await;
    }
    let quiet = options.how.quiet;
    let program = P::start(options.how.own, config).await?;
    print(&format!("{} is up ({:.2?}).\n", P::NAME, begun.elapsed()))?;
    if !quiet {
        print(&program.welcome()?)?;
    }
    let stop = stop_or_followed(program.running());
    watch(&program, quiet, stop).await?;
    // It ends in order even where nobody reads of it.
    let name = P::NAME;
    drop(print(&format!(
        "\n{name} ends what it has begun; Ctrl-C again stops it at once.\n"
    )));
    end(program).await?;
    drop(print(&format!(
        "{name} is down. The next start goes on from here.\n"
    )));
    Ok(())
}

/// Runs some parts until the process is asked to stop.
async fn run<P: Program>(options: Run<P::Options>) -> Result<()> {
    let begun = Instant::now();
    let (quiet, with_parent) = (options.how.quiet, options.with_parent);
    let config = loaded(options.how.settings(options.services))?;
    let names = config.run.clone();
    let program = P::start(options.how.own, config).await?;
    for name in &names {
        print(&up_line(program.running(), name, begun.elapsed()))?;
    }
    let leads = program.running().gateway_address().is_some();
    if leads && !quiet {
        print(&program.welcome()?)?;
    }
    let stop = async {
        tokio::select! {
            asked = stop_or_followed(program.running()) => asked,
            () = parent_gone(), if with_parent => Ok(()),
        }
    };
    watch(&program, quiet || !leads, stop).await?;
    end(program).await
}

fn loaded(settings: Settings) -> Result<Config> {
    let config = settings.load()?;
    init_logs(config.log.format, &config.log.filter)?;
    Ok(config)
}

/// The line by which [`crate::Processes`] knows that a part is up.
fn up_line(running: &Running, name: &str, took: Duration) -> String {
    let address = match name {
        GATEWAY => running.gateway_address(),
        name => running.service_address(name),
    };
    let place = address.map_or_else(String::new, |address| format!(" on {address}"));
    format!("{name} is up{place} after {took:.2?}\n")
}

/// Waits until the process is to end: it is asked to, or another has taken over.
async fn stop_or_followed(running: &Running) -> Result<()> {
    tokio::select! {
        asked = stop_requested() => asked,
        () = running.taken_over() => {
            // It ends where nobody reads of it too.
            drop(print("\nanother process has taken over.\n"));
            Ok(())
        }
    }
}

/// Tells what happens until `stop`.
async fn watch<P: Program>(
    program: &P,
    quiet: bool,
    stop: impl Future<Output = Result<()>>,
) -> Result<()> {
    let mut events = program.running().events();
    let mut line = program.watch();
    tokio::pin!(stop);
    loop {
        let event = tokio::select! {
            biased;
            stopped = &mut stop => return stopped,
            event = events.recv(), if !quiet => event,
        };
        match event {
            Ok(event) => {
                if let Some(line) = line(&event) {
                    print(&format!("{line}\n"))?;
                }
            }
            Err(RecvError::Lagged(missed)) => print(&format!("... {missed} events not shown\n"))?,
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

async fn end<P: Program>(program: P) -> Result<()> {
    tokio::select! {
        biased;
        again = stop_requested() => again,
        () = program.shutdown() => Ok(()),
    }
}

fn schemas<P: Program>(dir: &Path, write: bool) -> Result<()> {
    let platform = P::platform(&Config::default())?;
    if !write {
        platform.schemas(dir).check()?;
        return print("every event fits its schema\n");
    }
    for file in platform.write_schemas(dir)? {
        print(&format!("{}\n", file.display()))?;
    }
    Ok(())
}

fn kubernetes<P: Program>(pods: Pods) -> Result<()> {
    if pods.replicas_min > pods.replicas_max {
        let text = "expected `--replicas-min` to be at most `--replicas-max`";
        return Err(Error::invalid("replicas_invalid", text));
    }
    let unreadable = |error: std::io::Error| {
        Error::invalid("config_unreadable", "the configuration file can't be read")
            .with("file", pods.config.display())
            .with_source(error)
    };
    let text = std::fs::read_to_string(&pods.config).map_err(unreadable)?;
    let settings = Settings {
        config: Some(pods.config),
        ..Settings::default()
    };
    let config = settings.load()?;
    let wanted = Kubernetes {
        image: pods.image,
        namespace: pods.namespace,
        replicas: (pods.replicas_min, pods.replicas_max),
        keys: P::KEYS.iter().map(|file| (*file).to_owned()).collect(),
        text,
    };
    print(&P::platform(&config)?.kubernetes(&config, &wanted)?)
}

/// The key of the tokens of users of the platform with this data folder, made at its first start.
///
/// # Errors
/// `Unavailable` naming the folder if it can't be used.
pub fn token_secret(data: &Path, env: &Env) -> Result<Secret> {
    Secret::load_or_create(&data.join("token.secret"), env).map_err(|error| {
        let text = "the data folder can't be used; choose another with --data";
        Error::unavailable("data_unusable", text)
            .with("folder", data.display())
            .with_source(error)
    })
}

/// Writes a text to the terminal at once.
///
/// # Errors
/// `Internal` when nobody reads it any more.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.map_err(|error| Error::internal("the terminal is gone").with_source(error))
}
