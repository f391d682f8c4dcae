//! One suite for all transports. A transport's `tests/conformance.rs` is this much:
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use futures::{FutureExt, future::BoxFuture};
//! # use trunkline_bus::{Transport, memory::Memory};
//! # use trunkline_core::{Env, Result};
//! use trunkline_testkit::conformance::{Engine, conformance};
//!
//! struct InMemory;
//!
//! impl Engine for InMemory {
//!     fn open(&self, env: Env) -> BoxFuture<'_, Result<Arc<dyn Transport>>> {
//!         async { Ok(Arc::new(Memory::new(env)) as Arc<dyn Transport>) }.boxed()
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     conformance("memory", || InMemory)
//! }
//! ```
//!
//! Every case is shown for every transport. One that the transport's [`Capabilities`] exclude is shown
//! as ignored, with the reason in its name; and where the absence can be seen, a case of its own proves
//! it, so that an engine can't hide behind a flag.

mod bench;
mod cases;
mod durable;
mod faults;
mod groups;
mod load;
mod observed;
mod replay;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, LocalBoxFuture};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::sync::{Mutex, OwnedMutexGuard};
use trunkline_bus::{Capabilities, Transport};
use trunkline_core::{Env, Result};

pub use self::bench::Bench;
use self::observed::Observed;

/// How long a case may take.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a case that breaks a server may take.
const FAULT_LIMIT: Duration = Duration::from_secs(480);

/// A place where a transport can be opened, and opened again: a folder, a broker's namespace. Each case
/// gets one of its own.
pub trait Engine: Send + Sync + 'static {
    /// Opens the transport with this clock. Opened again after it was closed, a durable one finds what it kept.
    fn open(&self, env: Env) -> BoxFuture<'_, Result<Arc<dyn Transport>>>;

    /// The server behind it, if this place is one whose server may be broken.
    fn server(&self) -> Option<&dyn Breakable> {
        None
    }
}

/// A server that a case may break; each call returns when it is done.
pub trait Breakable: Send + Sync {
    /// Kills it (`SIGKILL`).
    fn kill(&self);

    /// Starts it again on the same address with what it had kept, and waits until it takes connections.
    fn restart(&self);

    /// Stops it where it is (`SIGSTOP`).
    fn pause(&self);

    /// Lets it go on (`SIGCONT`).
    fn resume(&self);

    /// Cuts every connection to it when so many more bytes have passed; a [`Proxy`](crate::Proxy) in front of it does.
    fn cut_after(&self, bytes: u32);
}

/// A case of the suite.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The capability it is about.
    pub(crate) needs: Option<Need>,
    pub(crate) run: fn(Bench) -> LocalBoxFuture<'static, ()>,
}

/// A capability, and whether the case is for transports that have it or for those that lack it.
pub(crate) struct Need {
    pub(crate) name: &'static str,
    pub(crate) has: fn(&Capabilities) -> bool,
    pub(crate) wanted: bool,
}

/// Names the cases of a module: `case!(name)`, `case!(name, needs durable)`, `case!(name, lacks durable)`.
macro_rules! case {
    ($run:ident) => {
        $crate::conformance::Case {
            name: stringify!($run),
            needs: None,
            run: |bench| futures::FutureExt::boxed_local($run(bench)),
        }
    };
    ($run:ident, needs $capability:ident) => {
        case!(@ $run, $capability, true)
    };
    ($run:ident, lacks $capability:ident) => {
        case!(@ $run, $capability, false)
    };
    (@ $run:ident, $capability:ident, $wanted:literal) => {
        $crate::conformance::Case {
            name: stringify!($run),
            needs: Some($crate::conformance::Need {
                name: stringify!($capability),
                has: |capabilities| capabilities.$capability,
                wanted: $wanted,
            }),
            run: |bench| futures::FutureExt::boxed_local($run(bench)),
        }
    };
}
pub(crate) use case;

/// Runs the suite over the transport `name`, each case in a place that `fresh` makes.
pub fn conformance<E: Engine>(
    name: &str,
    fresh: impl Fn() -> E + Send + Sync + 'static,
) -> ExitCode {
    suite(name, arc(fresh), None, &Arguments::from_args())
}

/// The same for a transport with a server: `breakable` makes places on one whose server the cases may break, one case
/// after the other.
pub fn conformance_with_faults<E: Engine, B: Engine>(
    name: &str,
    fresh: impl Fn() -> E + Send + Sync + 'static,
    breakable: impl Fn() -> B + Send + Sync + 'static,
) -> ExitCode {
    let arguments = Arguments::from_args();
    suite(name, arc(fresh), Some(arc(breakable)), &arguments)
}

/// The same as [`conformance`] for a program of its own: the cases whose names contain `filter`, two at a time.
pub fn conform<E: Engine>(
    name: &str,
    fresh: impl Fn() -> E + Send + Sync + 'static,
    filter: Option<String>,
) -> ExitCode {
    let arguments = Arguments {
        filter,
        test_threads: Some(2),
        ..Arguments::default()
    };
    suite(name, arc(fresh), None, &arguments)
}

/// Makes places.
type Fresh = Arc<dyn Fn() -> Arc<dyn Engine> + Send + Sync>;

fn arc<E: Engine>(fresh: impl Fn() -> E + Send + Sync + 'static) -> Fresh {
    Arc::new(move || Arc::new(fresh()))
}

fn suite(name: &str, fresh: Fresh, breakable: Option<Fresh>, arguments: &Arguments) -> ExitCode {
    let capabilities = match runtime().block_on(async { capabilities(&*fresh()).await }) {
        Ok(capabilities) => capabilities,
        Err(error) => {
            eprintln!("{name} does not open: {}", trunkline_core::report(&error));
            return ExitCode::FAILURE;
        }
    };
    let run = Run {
        transport: name,
        capabilities,
        observed: Observed::default(),
    };
    let cases = all().into_iter();
    let mut trials: Vec<Trial> = cases.map(|case| run.trial(case, &fresh, LIMIT)).collect();
    if let Some(breakable) = breakable {
        let alone = Arc::new(Mutex::new(()));
        let fresh: Fresh = Arc::new(move || {
            let place = Alone {
                _turn: alone.clone().blocking_lock_owned(),
                inner: breakable(),
            };
            Arc::new(place)
        });
        let faults = faults::all().into_iter();
        trials.extend(faults.map(|case| run.trial(case, &fresh, FAULT_LIMIT)));
    }
    let conclusion = libtest_mimic::run(arguments, trials);
    if let Some(folder) = std::env::var_os(observed::FOLDER)
        && conclusion.num_filtered_out == 0
        && !arguments.list
    {
        let written = run
            .observed
            .write(folder.as_ref(), name, &capabilities, &all());
        if let Err(error) = written {
            eprintln!("what was observed of {name} can't be written: {error}");
            return ExitCode::FAILURE;
        }
    }
    conclusion.exit_code()
}

/// A run of the suite.
struct Run<'a> {
    transport: &'a str,
    capabilities: Capabilities,
    observed: Observed,
}

impl Run<'_> {
    fn trial(&self, case: Case, fresh: &Fresh, limit: Duration) -> Trial {
        let has = |need: &Need| (need.has)(&self.capabilities);
        let needs = case.needs.as_ref();
        let excluded = needs.is_some_and(|need| has(need) != need.wanted);
        let name = match needs {
            Some(need) if excluded && need.wanted => format!("{} (lacks {})", case.name, need.name),
            Some(need) if excluded => format!("{} (has {})", case.name, need.name),
            _ => case.name.to_owned(),
        };
        let (fresh, observed) = (fresh.clone(), self.observed.clone());
        let body = move || -> Result<(), Failed> {
            let runtime = runtime();
            // A place may have to wait for its turn: before the limit begins.
            let place = fresh();
            runtime.block_on(async move {
                let bench = Bench::open(place).await;
                let work = tokio::time::timeout(limit, (case.run)(bench));
                work.await
                    .map_err(|_| Failed::from(format!("not done within {limit:?}")))
            })?;
            observed.passed(case.name);
            Ok(())
        };
        Trial::test(format!("{}::{name}", self.transport), body).with_ignored_flag(excluded)
    }
}

/// A place whose server nobody else breaks meanwhile.
struct Alone {
    inner: Arc<dyn Engine>,
    _turn: OwnedMutexGuard<()>,
}

impl Engine for Alone {
    fn open(&self, env: Env) -> BoxFuture<'_, Result<Arc<dyn Transport>>> {
        self.inner.open(env)
    }

    fn server(&self) -> Option<&dyn Breakable> {
        self.inner.server()
    }
}

/// What a case said of an engine.
#[derive(Debug)]
pub struct Verdict {
    /// The case.
    pub case: &'static str,
    /// Why it failed; none if it passed.
    pub failure: Option<String>,
}

/// Runs the cases that an engine's capabilities ask for, one after the other, until `enough` of them have failed, each
/// in a place that `fresh` makes. Whatever has to come has to come within `comes`.
///
/// # Panics
/// When the engine does not open.
pub fn judge<E: Engine>(fresh: impl Fn() -> E, comes: Duration, enough: usize) -> Vec<Verdict> {
    let runtime = runtime();
    bench::be_patient(comes);
    let capabilities = runtime.block_on(async { capabilities(&fresh()).await });
    let capabilities = capabilities.expect("the engine opens");
    let fits = |case: &Case| {
        let need = case.needs.as_ref();
        need.is_none_or(|need| (need.has)(&capabilities) == need.wanted)
    };
    let mut verdicts = Vec::new();
    let mut failures = 0;
    for case in all().into_iter().filter(fits) {
        if failures == enough {
            break;
        }
        let run = case.run;
        let place = Arc::new(fresh());
        let work = || {
            runtime.block_on(async {
                let bench = Bench::open(place).await;
                let limit = comes.saturating_mul(4);
                let done = tokio::time::timeout(limit, run(bench)).await;
                done.expect("a case ends in time");
            });
        };
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).err();
        failures += usize::from(failed.is_some());
        verdicts.push(Verdict {
            case: case.name,
            failure: failed.map(|panic| said(&*panic)),
        });
    }
    verdicts
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| Some((*panic.downcast_ref::<&str>()?).to_owned()));
    text.unwrap_or_else(|| "it panicked".to_owned())
}

/// Every case that needs no server of its own.
fn all() -> Vec<Case> {
    let all = cases::all().into_iter().chain(groups::all());
    all.chain(replay::all())
        .chain(durable::all())
        .chain(load::all())
        .collect()
}

async fn capabilities(engine: &dyn Engine) -> Result<Capabilities> {
    let transport = engine.open(Env::system()).await?;
    let capabilities = transport.capabilities();
    transport.close().await?;
    Ok(capabilities)
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts")
}
