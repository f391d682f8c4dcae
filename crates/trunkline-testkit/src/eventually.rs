//! Waiting for a state, bounded.

use std::time::Duration;

use tokio::time::Instant;

/// Waits until `holds` says yes, looking again every few milliseconds, and panics at `limit`.
///
/// It looks at a state rather than waiting for an edge, so that it can't miss one.
///
/// # Panics
/// When `limit` is over.
#[track_caller]
pub fn eventually<F>(limit: Duration, mut holds: F) -> impl Future<Output = ()>
where
    F: AsyncFnMut() -> bool,
{
    let place = std::panic::Location::caller();
    async move {
        let until = Instant::now() + limit;
        while !holds().await {
            assert!(Instant::now() < until, "not within {limit:?}: {place}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
