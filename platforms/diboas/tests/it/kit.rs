//! The crash kit over the saga of a transfer, in a platform that runs.

use std::sync::Arc;

use trunkline::saga::State;
use trunkline_testkit::saga::{Switch, exhaust};

use crate::finance::TestFinance;

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_bears_every_fault() {
    let switch = Arc::new(Switch::default());
    let probe = switch.clone();
    let finance = TestFinance::extended(|platform| platform.saga_probe(probe)).await;
    let count = std::sync::atomic::AtomicUsize::new(0);
    let (finance, switch, count) = (&finance, &switch, &count);
    let runs = exhaust(|about, probe| async move {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (ada, bob) = (format!("ada{n}"), format!("bob{n}"));
        finance.deposits(&ada, "50").await;
        switch.set(probe);
        let id = finance.sends(&ada, &bob, "20").await;
        let ended = finance.ended(&id).await;
        finance.settled(&id).await;
        let mut done = finance.legs(&id).await;
        done.retain(|leg| leg.ends_with("done"));
        let state = if ended["status"] == "completed" {
            finance.comes_to_have(&bob, "20.000000").await;
            assert_eq!(done.len(), 3, "{about}: {done:?}");
            assert_eq!(finance.has(&ada).await, "30.000000", "{about}");
            State::Completed
        } else {
            assert_eq!(finance.has(&ada).await, "50.000000", "{about}: {ended}");
            assert_eq!(done.len(), 0, "{about}: {done:?}");
            State::Compensated
        };
        assert_eq!(finance.held().await, "0.000000", "{about}");
        state
    })
    .await;
    assert!(runs > 100, "{runs} runs");
}
