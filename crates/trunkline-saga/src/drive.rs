//! Drives one instance: its function, then its compensations, until it has ended, rests, or can't go on.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{pending, poll_fn};
use tokio::time::timeout;
use trunkline_core::{Error, Result};

use crate::definition::Ended;
use crate::host::Host;
use crate::journal::{Change, Fault, Instance, State, Write, Written};
use crate::live::{Halt, Live, Look};
use crate::saga::Saga;
use crate::saga::attempt::panicked;
use crate::saga::child::told;
use crate::saga::undo::{Undo, undo_all};

/// What became of an instance in this process.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It has ended or is parked.
    Settled(Box<Instance>),
    /// It rests, and nobody has it.
    Rests,
    /// What is known of it is not true any more.
    Reload,
    /// The engine stops.
    Stopped,
}

/// How long an instance has to write that it is given back.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(2);

/// How a life in this process came to its end: with the instance's, by a panic, or by what was seen of it.
pub(crate) type Seen = Result<std::thread::Result<Box<Instance>>, Look>;

/// Runs an instance until nothing of it goes on here.
pub(crate) async fn run<H: Host>(live: &Arc<Live<H>>) -> Seen {
    let mut life = Box::pin(AssertUnwindSafe(life(live.clone())).catch_unwind());
    poll_fn(|cx| match life.poll_unpin(cx) {
        Poll::Ready(ended) => Poll::Ready(Ok(ended)),
        Poll::Pending => match live.look(cx.waker()) {
            Look::Runs => Poll::Pending,
            seen => Poll::Ready(Err(seen)),
        },
    })
    .await
}

/// Writes how it stands then.
pub(crate) async fn come_to<H: Host>(live: &Arc<Live<H>>, seen: Seen) -> Outcome {
    match seen {
        Ok(Ok(instance)) => Outcome::Settled(instance),
        Ok(Err(panic)) => park(live, Fault::of(&panicked(&*panic))).await,
        Err(Look::Halts(Halt::Park(fault))) => park(live, fault).await,
        Err(Look::Halts(Halt::Stop)) => stop(live).await,
        Err(Look::Halts(Halt::Reload | Halt::Fits) | Look::Runs) => Outcome::Reload,
        Err(Look::Rests { wake_at, messages }) => {
            let change = Change {
                wake_at,
                release: true,
                messages: Some(messages),
                ..Change::to(live.resting_state())
            };
            // Its operations stay as they are: when it may not rest they are read again.
            match written(live, change).await {
                true => Outcome::Rests,
                false => Outcome::Reload,
            }
        }
    }
}

/// Whether the code fits what the journal has of an instance; if not, why. Nothing is done.
pub(crate) async fn fits<H: Host>(live: &Arc<Live<H>>) -> Option<Fault> {
    live.only_checks();
    let mut life = Box::pin(AssertUnwindSafe(life(live.clone())).catch_unwind());
    let seen = poll_fn(|cx| {
        let ended = life.poll_unpin(cx);
        match (live.look(cx.waker()), ended) {
            (Look::Halts(halt), _) => Poll::Ready(Ok(halt)),
            (_, Poll::Ready(ended)) => Poll::Ready(ended.map(|_| Halt::Fits)),
            (_, Poll::Pending) => Poll::Pending,
        }
    });
    match timeout(FITS_WITHIN, seen).await {
        Ok(Ok(Halt::Park(fault))) => Some(fault),
        Ok(Ok(_)) => None,
        Ok(Err(panic)) => Some(Fault::of(&panicked(&*panic))),
        Err(_) => {
            let text = "the code does not come to an operation in time";
            Some(Fault::of(&Error::conflict("saga_code_slow", text)))
        }
    }
}

/// How long code may take from its beginning to the first operation that has not ended.
const FITS_WITHIN: Duration = Duration::from_secs(5);

/// The whole life of an instance, from its function's beginning.
async fn life<H: Host>(live: Arc<Live<H>>) -> Box<Instance> {
    let function = live.parts.function(&live.instance);
    let function = match function {
        Ok(function) => function,
        Err(error) => return live.halted(Halt::Park(Fault::of(&error))).await,
    };
    let ended = function(Saga::whole(live.clone()), live.instance.input.clone()).await;
    let failed = match ended {
        Err(Ended::Unreadable(error)) => return live.halted(Halt::Park(Fault::of(&error))).await,
        Err(Ended::Failed(error)) => {
            live.check_complete();
            error
        }
        Ok(output) => {
            live.check_complete();
            match live.revoked() {
                Some(error) => error,
                None => return end(&live, State::Completed, Ok(output)).await,
            }
        }
    };
    if live.is_halted() {
        return pending().await;
    }
    live.begins().await;
    let fault = Fault::of(&failed);
    let undos = live.take_undo(None);
    if undos.is_empty() {
        tell_failed(&live, &fault).await;
        return end(&live, State::Failed, Err(fault)).await;
    }
    if live.instance.state != State::Compensating {
        let change = Change {
            error: Some(fault.clone()),
            ..Change::to(State::Compensating)
        };
        live.write(Some(change)).await;
    }
    undo_all(&live, undos).await;
    tell_failed(&live, &fault).await;
    end(&live, State::Compensated, Err(fault)).await
}

/// The last thing that is done for an instance that came to nothing.
async fn tell_failed<H: Host>(live: &Arc<Live<H>>, fault: &Fault) {
    let failed = live.parts.failed(&live.instance);
    if let Some(failed) = failed {
        let (input, fault) = (live.instance.input.clone(), fault.clone());
        let last = Undo::last(Arc::new(move |work, _| failed(work, &input, fault.error())));
        undo_all(live, vec![last]).await;
    }
}

/// The last write.
async fn end<H: Host>(
    live: &Arc<Live<H>>,
    state: State,
    outcome: Result<crate::Data, Fault>,
) -> Box<Instance> {
    if live.is_halted() {
        return pending().await;
    }
    live.begins().await;
    let instance = settled(live, state, outcome);
    let revoked = live.revoked().is_some();
    let change = Change {
        output: instance.output.clone(),
        error: instance.error.clone(),
        release: true,
        tell_parent: told(&instance, revoked, live.env().now()),
        ..Change::to(state)
    };
    live.write(Some(change)).await;
    if instance.parent.is_some() {
        // Its parent may rest, and would find the message only at the next poll.
        live.parts.due.notify_one();
    }
    instance
}

fn settled<H: Host>(
    live: &Live<H>,
    state: State,
    outcome: Result<crate::Data, Fault>,
) -> Box<Instance> {
    let (output, error) = match outcome {
        Ok(output) => (Some(output), None),
        Err(fault) => (None, Some(fault)),
    };
    Box::new(Instance {
        state,
        output,
        error,
        changed_at: live.env().now(),
        wake_at: None,
        owner: None,
        ..(*live.instance).clone()
    })
}

async fn park<H: Host>(live: &Arc<Live<H>>, fault: Fault) -> Outcome {
    tracing::error!(
        saga = &*live.instance.saga,
        key = &*live.instance.key,
        id = %live.instance.id,
        code = &*fault.code,
        error = &*fault.message,
        "a saga is parked: it can't go on by itself"
    );
    let change = Change {
        error: Some(fault.clone()),
        release: true,
        ..Change::to(State::Parked)
    };
    match written(live, change).await {
        true => Outcome::Settled(settled(live, State::Parked, Err(fault))),
        false => Outcome::Reload,
    }
}

/// Gives the instance back, for another process to take up.
async fn stop<H: Host>(live: &Arc<Live<H>>) -> Outcome {
    let change = Change {
        wake_at: Some(live.env().now()),
        release: true,
        ..Change::to(live.instance.state)
    };
    if timeout(GIVE_BACK_WITHIN, written(live, change))
        .await
        .is_err()
    {
        tracing::debug!(id = %live.instance.id, "a saga was not given back; its lease will end");
    }
    Outcome::Stopped
}

/// Writes what is pending with a change, beyond the life of the function.
async fn written<H: Host>(live: &Live<H>, change: Change) -> bool {
    let mut went = live.take_pending();
    went.change = Some(Box::new(change));
    match live.parts.write(Write::Went(went)).await {
        Ok(written) => written == Written::Done,
        Err(error) => {
            log_unwritten(live, &error);
            false
        }
    }
}

fn log_unwritten<H: Host>(live: &Live<H>, error: &Error) {
    tracing::warn!(
        id = %live.instance.id,
        error = %trunkline_core::report(error),
        "how a saga stands was not written"
    );
}
