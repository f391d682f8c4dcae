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
//!     fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Transport>>> {
//!         async { Ok(Arc::new(Memory::new(Env::system())) as Arc<dyn Transport>) }.boxed()
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
mod groups;
mod replay;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use trunkline_bus::{Capabilities, Transport};
use trunkline_core::Result;

pub use self::bench::Bench;

/// How long a case may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A place where a transport can be opened, and opened again: a folder, a broker's namespace. Each case
/// gets one of its own.
pub trait Engine: Send + Sync + 'static {
    /// Opens the transport. Opened again after it was closed, a durable one finds what it kept.
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Transport>>>;
}

/// A case of the suite.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The capability it is about.
    pub(crate) needs: Option<Need>,
    pub(crate) run: fn(Bench) -> BoxFuture<'static, ()>,
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
            run: |bench| futures::FutureExt::boxed($run(bench)),
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
            run: |bench| futures::FutureExt::boxed($run(bench)),
        }
    };
}
pub(crate) use case;

/// Runs the suite over the transport `name`, each case in a place that `fresh` makes.
pub fn conformance<E: Engine>(
    name: &str,
    fresh: impl Fn() -> E + Send + Sync + 'static,
) -> ExitCode {
    let arguments = Arguments::from_args();
    let fresh: Arc<dyn Fn() -> Arc<dyn Engine> + Send + Sync> = Arc::new(move || Arc::new(fresh()));
    let capabilities = match runtime().block_on(async { capabilities(&*fresh()).await }) {
        Ok(capabilities) => capabilities,
        Err(error) => {
            eprintln!("{name} does not open: {}", trunkline_core::report(&error));
            return ExitCode::FAILURE;
        }
    };
    let all = cases::all()
        .into_iter()
        .chain(groups::all())
        .chain(replay::all());
    let all = all.chain(durable::all());
    let trials = all
        .map(|case| trial(name, case, &capabilities, fresh.clone()))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

async fn capabilities(engine: &dyn Engine) -> Result<Capabilities> {
    let transport = engine.open().await?;
    let capabilities = transport.capabilities();
    transport.close().await?;
    Ok(capabilities)
}

fn trial(
    transport: &str,
    case: Case,
    capabilities: &Capabilities,
    fresh: Arc<dyn Fn() -> Arc<dyn Engine> + Send + Sync>,
) -> Trial {
    let excluded = case
        .needs
        .as_ref()
        .is_some_and(|need| (need.has)(capabilities) != need.wanted);
    let name = match &case.needs {
        Some(need) if excluded && need.wanted => format!("{} (lacks {})", case.name, need.name),
        Some(need) if excluded => format!("{} (has {})", case.name, need.name),
        _ => case.name.to_owned(),
    };
    let run = case.run;
    let body = move || -> Result<(), Failed> {
        let runtime = runtime();
        runtime.block_on(async move {
            let bench = Bench::open(fresh()).await;
            let work = tokio::time::timeout(LIMIT, run(bench));
            work.await
                .map_err(|_| Failed::from(format!("not done within {LIMIT:?}")))
        })
    };
    Trial::test(format!("{transport}::{name}"), body).with_ignored_flag(excluded)
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts")
}
