//! Keeps a pool at what a [`Discovery`] says: watches, and opens the watch again when it ends.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use metrics::counter;
use tokio::time::{Instant, sleep, sleep_until};
use trunkline_core::{Env, Error, report};

use super::{Discovery, Instance, clean};
use crate::balance::Pool;

/// The first pause after a watch ended, and the longest; between, it doubles. Half of each is chance.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Lists that come faster than this wait for each other.
const LISTS_APART: Duration = Duration::from_millis(20);
/// An empty list is believed when it has been said for so long: a registry that just came back knows nobody, and
/// everybody announces themselves within a heartbeat. Meanwhile the last known instances are called.
pub(crate) const EMPTY_HOLDS: Duration = Duration::from_secs(30);

/// Watches until it is dropped.
pub(crate) async fn keep(pool: Arc<Pool>, discovery: Arc<dyn Discovery>, env: Env) {
    let mut keeper = Keeper {
        failures: counter!("trunkline_discovery_failures_total", "target" => pool.target().to_string()),
        pool,
        failed: 0,
        empty_since: None,
        last: Vec::new(),
    };
    loop {
        let mut lists = discovery.watch(keeper.pool.target());
        let error = loop {
            let believed_at = keeper.empty_since.map(|since| since + EMPTY_HOLDS);
            tokio::select! {
                biased;
                () = sleep_until(believed_at.unwrap_or_else(Instant::now)), if believed_at.is_some() => {
                    keeper.believe_empty();
                }
                list = lists.next() => match list {
                    Some(Ok(list)) => {
                        keeper.take(list);
                        sleep(LISTS_APART).await;
                    }
                    Some(Err(error)) => break error,
                    None => break Error::unavailable("watch_ended", "the watch of the service ended"),
                }
            }
        };
        // What is left of it is closed before the pause.
        drop(lists);
        keeper.fail(&error);
        sleep(pause(keeper.failed, &env)).await;
    }
}

/// How long to wait after so many failures in a row.
pub(super) fn pause(failed: u32, env: &Env) -> Duration {
    let whole = PAUSE_FIRST.saturating_mul(1 << failed.saturating_sub(1).min(16));
    let whole = whole.min(PAUSE_MAX);
    whole / 2 + (whole / 2).mul_f64(env.random_f64())
}

struct Keeper {
    pool: Arc<Pool>,
    failures: metrics::Counter,
    /// Watches that ended since the last list.
    failed: u32,
    empty_since: Option<Instant>,
    last: Vec<Instance>,
}

impl Keeper {
    fn take(&mut self, list: Vec<Instance>) {
        let list = clean(list);
        if self.failed > 0 {
            tracing::info!(target = %self.pool.target(), "the instances of a service are known again");
        }
        self.failed = 0;
        if !list.is_empty() {
            self.empty_since = None;
            if self.last != list {
                self.last.clone_from(&list);
                self.pool.update(list);
            }
            self.pool.troubled(None);
        } else if self.pool.members().is_empty() {
            self.pool.update(list);
            self.pool
                .troubled(Some("no instance is announced".to_owned()));
        } else if self.empty_since.is_none() {
            self.empty_since = Some(Instant::now());
            let text =
                "no instance is announced any more; the last known ones are called for a while";
            self.pool.troubled(Some(text.to_owned()));
            tracing::warn!(target = %self.pool.target(), "{text}");
        }
    }

    fn believe_empty(&mut self) {
        self.empty_since = None;
        self.last.clear();
        self.pool.update(Vec::new());
    }

    fn fail(&mut self, error: &Error) {
        // Whether it is still empty is not known any more.
        self.empty_since = None;
        self.failed = self.failed.saturating_add(1);
        self.failures.increment(1);
        let why = report(error).to_string();
        if self.failed == 1 {
            tracing::warn!(
                target = %self.pool.target(), error = %why, known = self.pool.members().len(),
                "the instances of a service can't be learnt; the last known ones are called"
            );
        }
        self.pool.troubled(Some(why));
    }
}
