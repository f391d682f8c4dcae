//! Work that takes a processor for long, beside the threads that serve.
//!
//! A system gives a thread that works some milliseconds before it lets another one go on, and a request waits that long where
//! no processor is free. A lower priority does not help (ADR 115), so such work says itself where it can be interrupted.

use std::cell::Cell;
use std::thread;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::Instant;
use trunkline_core::{Error, Result};

/// Others wait at most about so long for a processor.
const TURN: Duration = Duration::from_micros(200);
/// The clock is read once in so many steps, each of which is a microsecond or less.
const STEPS: u32 = 16;
/// Work that has taken so long gives way no more: where there is no end of others it has to come to its own.
const GIVES_WAY_FOR: Duration = Duration::from_secs(1);

/// How far the work of this thread is.
#[derive(Clone, Copy)]
struct Turn {
    work_began: Instant,
    began: Instant,
    steps: u32,
}

thread_local! {
    static TURN_OF_THREAD: Cell<Option<Turn>> = const { Cell::new(None) };
}

/// Does work on a thread that gives way to others wherever the work says [`give_way`].
///
/// # Errors
/// `Internal` if it panics, or the runtime ends.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = spawn_blocking(|| {
        let now = Instant::now();
        TURN_OF_THREAD.set(Some(Turn {
            work_began: now,
            began: now,
            steps: 0,
        }));
        let _ended = Ended;
        work()
    });
    let failed = |error| Error::internal("work beside the requests failed").with_source(error);
    done.await.map_err(failed)
}

/// The thread is anybody's again, however the work ended.
struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        TURN_OF_THREAD.set(None);
    }
}

/// Lets others go first if they have waited for long. Costs next to nothing, and does nothing outside of [`run`].
pub(crate) fn give_way() {
    let Some(mut turn) = TURN_OF_THREAD.get() else {
        return;
    };
    turn.steps += 1;
    if turn.steps >= STEPS {
        turn.steps = 0;
        let now = Instant::now();
        if now.duration_since(turn.began) >= TURN {
            if now.duration_since(turn.work_began) < GIVES_WAY_FOR {
                thread::yield_now();
            }
            turn.began = Instant::now();
        }
    }
    TURN_OF_THREAD.set(Some(turn));
}

/// Frees things one by one: many small ones take milliseconds.
pub(crate) fn drop_each<T>(things: impl IntoIterator<Item = T>) {
    for thing in things {
        drop(thing);
        give_way();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn() -> Option<Turn> {
        TURN_OF_THREAD.get()
    }

    #[test]
    fn only_work_beside_gives_way_and_its_thread_is_free_after_it() {
        give_way();
        assert!(turn().is_none());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let done = run(|| {
            drop_each(0..20);
            turn().map(|turn| turn.steps)
        });
        let steps = runtime.block_on(done).unwrap();
        assert_eq!(steps, Some(4), "twenty steps, and the clock after sixteen");
        let failed = run(|| -> usize { panic!("as it should") });
        let failed = runtime.block_on(failed).unwrap_err();
        assert_eq!(failed.code(), "internal");
        // There is one such thread.
        let after = runtime.block_on(async { spawn_blocking(turn).await });
        assert!(after.unwrap().is_none());
    }
}
