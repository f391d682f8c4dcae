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
pub fn eventually<F>(limit: Duration, holds: F) -> impl Future<Output = ()>
where
    F: AsyncFnMut() -> bool,
{
    eventually_or(limit, holds, String::new)
}

/// The same, and when `limit` is over the panic tells what `why` says, such as the log of a process that was waited for.
///
/// # Panics
/// When `limit` is over.
#[track_caller]
pub fn eventually_or<F>(
    limit: Duration,
    mut holds: F,
    why: impl FnOnce() -> String,
) -> impl Future<Output = ()>
where
    F: AsyncFnMut() -> bool,
{
    let place = std::panic::Location::caller();
    async move {
        let until = Instant::now() + limit;
        while !holds().await {
            if Instant::now() >= until {
                panic!("not within {limit:?}: {place}\n{}", why());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
