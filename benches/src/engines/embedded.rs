//! The driver of embedded stores: a publisher, one writer that groups what has come, a consumer that
//! reads what is committed and hands its position to the writer.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::{Outcome, Setup};
use crate::flow::Flow;

/// The writing half of a store.
pub trait Write: Send + 'static {
    /// Appends events from `first` on and the group's position, as durable as the setup says.
    fn commit(&mut self, first: u64, events: &[Vec<u8>], position: Option<u64>);
}

/// The reading half.
pub trait Read: Send + 'static {
    /// Gives the events from `from` up to below `to`.
    fn read(&mut self, from: u64, to: u64, visit: &mut dyn FnMut(&[u8]));
}

enum Request {
    Append(Vec<u8>),
    Position(u64),
}

/// Events that a commit takes at most, and that a read takes at most.
const GROUP_MAX: usize = 1000;

/// Runs the flow over a store.
pub fn run(setup: &Setup, writer: impl Write, reader: impl Read) -> Outcome {
    let flow = Arc::new(Flow::new(setup.window));
    let (requests, queue) = sync_channel(8192);
    let end = Arc::new((Mutex::new(0), Condvar::new()));
    let publisher = {
        let (flow, requests, batch) = (flow.clone(), requests.clone(), setup.batch);
        std::thread::spawn(move || publish(&flow, &requests, batch))
    };
    let committer = {
        let (flow, end) = (flow.clone(), end.clone());
        std::thread::spawn(move || commit(&flow, &queue, &end, writer))
    };
    let consumer = {
        let flow = flow.clone();
        std::thread::spawn(move || consume(&flow, &requests, &end, reader))
    };
    let result = flow.clock(setup.warm_up, setup.measured, &[]);
    for thread in [publisher, consumer, committer] {
        thread.join().map_err(|_| "a thread of the run panicked")?;
    }
    Ok(result)
}

fn publish(flow: &Flow, requests: &SyncSender<Request>, batch: u64) {
    while let Some(count) = flow.permits(batch) {
        for _ in 0..count {
            let (_, body) = flow.next();
            if requests.send(Request::Append(body)).is_err() {
                return;
            }
        }
    }
}

fn commit(
    flow: &Flow,
    queue: &Receiver<Request>,
    end: &(Mutex<u64>, Condvar),
    mut writer: impl Write,
) {
    let mut next = 0;
    let mut events = Vec::with_capacity(GROUP_MAX);
    let mut position = None;
    loop {
        // A position alone waits a little for events to ride with.
        let first = match position {
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(_) => queue.recv_timeout(Duration::from_millis(5)),
        };
        let ended = matches!(first, Err(RecvTimeoutError::Disconnected));
        let alone = first.is_err();
        let mut request = first.ok();
        while let Some(taken) = request.take() {
            match taken {
                Request::Append(body) => events.push(body),
                Request::Position(at) => position = Some(at),
            }
            if events.len() < GROUP_MAX {
                request = queue.try_recv().ok();
            }
        }
        if !events.is_empty() || (alone && position.is_some()) {
            writer.commit(next, &events, position.take());
            let first = next;
            next += events.len() as u64;
            events.clear();
            *end.0.lock() = next;
            end.1.notify_one();
            flow.confirmed(first..next);
        }
        if ended {
            return;
        }
    }
}

fn consume(
    flow: &Flow,
    requests: &SyncSender<Request>,
    end: &(Mutex<u64>, Condvar),
    mut reader: impl Read,
) {
    let mut next = 0;
    loop {
        let to = {
            let mut end_now = end.0.lock();
            while *end_now == next {
                if flow.is_over() && flow.is_drained() {
                    return;
                }
                end.1.wait_for(&mut end_now, Duration::from_millis(100));
            }
            *end_now
        };
        let to = to.min(next + GROUP_MAX as u64);
        reader.read(next, to, &mut |body| {
            flow.received(body);
        });
        if requests.send(Request::Position(to)).is_err() {
            return;
        }
        flow.acked(next..to);
        next = to;
    }
}
