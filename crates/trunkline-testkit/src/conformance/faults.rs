//! Servers that are killed, paused or cut off while events flow. Only engines with a server have these cases.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use trunkline_bus::Start;
use trunkline_core::{ErrorKind, Retry};

use super::bench::{Bench, spec};
use super::load::{LIMIT, Load, under_load};
use super::{Breakable, Case, case};
use crate::{eventually, numbered};

pub(super) fn all() -> Vec<Case> {
    vec![
        case!(a_killed_server_loses_nothing),
        case!(a_paused_server_loses_nothing),
        case!(a_connection_cut_in_a_batch_loses_nothing),
        case!(no_call_waits_for_ever_on_a_paused_server),
    ]
}

/// A call that has not answered by then waits for ever.
const CALL_MAX: Duration = Duration::from_secs(30);

async fn a_killed_server_loses_nothing(bench: Bench) {
    under_load(bench, async |load| {
        for _ in 0..2 {
            load.goes_on().await;
            load.blocking(|server| server.kill()).await;
            load.blocking(|server| server.restart()).await;
        }
    })
    .await;
}

async fn a_paused_server_loses_nothing(bench: Bench) {
    under_load(bench, async |load| {
        load.goes_on().await;
        load.blocking(|server| server.pause()).await;
        // As long as it is looked at it stands still; that is the fault itself.
        sleep(Duration::from_secs(3)).await;
        load.blocking(|server| server.resume()).await;
    })
    .await;
}

async fn a_connection_cut_in_a_batch_loses_nothing(bench: Bench) {
    under_load(bench, async |load| {
        for bytes in [1, 70, 700, 3_000, 10_000, 30_000] {
            load.goes_on().await;
            load.blocking(move |server| server.cut_after(bytes)).await;
        }
        load.goes_on().await;
        // What was not used up must not cut the next case.
        load.blocking(|server| server.cut_after(u32::MAX)).await;
    })
    .await;
}

async fn no_call_waits_for_ever_on_a_paused_server(bench: Bench) {
    bench.declare("t", 1).await;
    let member = bench.group("t", "g").await;
    let server = bench.server();
    server.pause();
    let published = timeout(CALL_MAX, bench.transport.publish(&[numbered("t", "k", 0)])).await;
    let lag = timeout(CALL_MAX, member.lag()).await;
    let spec = spec("t", Some("other"), Start::Committed);
    let joined = timeout(CALL_MAX, bench.transport.subscribe(&spec)).await;
    server.resume();
    let refused = published.expect("publishing has a limit");
    let refused = refused.expect_err("nothing was confirmed");
    assert_eq!(refused.accepted, 0);
    assert_ne!(refused.error.retry(), Retry::Permanent, "{}", refused.error);
    for error in [
        lag.expect("asking for the lag has a limit").err(),
        joined.expect("subscribing has a limit").err(),
    ] {
        let kind = error.expect("nobody answered").kind();
        let expected = [ErrorKind::Unavailable, ErrorKind::DeadlineExceeded];
        assert!(expected.contains(&kind), "{kind:?}");
    }
    // It goes on as if nothing had been.
    eventually(LIMIT, async || {
        bench
            .transport
            .publish(&[numbered("t", "k", 1)])
            .await
            .is_ok()
    })
    .await;
}

impl Load {
    /// Does something to the server, away from the runtime.
    async fn blocking(&self, work: impl FnOnce(&dyn Breakable) + Send + 'static) {
        let bench = self.bench();
        let done = tokio::task::spawn_blocking(move || work(bench.server())).await;
        done.expect("the server does what it is told");
    }
}
