//! Publishing: everything goes through one writer, which sends what waits as one transaction.
//!
//! Commands that are sent by several tasks reach the server in any order, and of a plain pipeline some may
//! be refused and later ones not (at `maxmemory`, for instance): either would reorder a key. One
//! `MULTI`/`EXEC` at a time does neither.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use trunkline_bus::{PublishError, partition_of};
use trunkline_core::{Envelope, Error, Result, Retry};

use crate::config::Mode;
use crate::link::Connection;
use crate::topics::Topic;
use crate::transport::Shared;
use crate::{entry, error, value};

/// What is sent at once. A larger batch goes in parts, one after the other.
const BYTES_MAX: usize = 4 << 20;
const EVENTS_MAX: usize = 4096;
/// Parts that wait for the writer; beyond it, publishers wait.
pub(crate) const PARTS_MAX: usize = 256;

/// A part of somebody's batch.
#[derive(Debug)]
pub(crate) struct Part {
    commands: Vec<Cmd>,
    bytes: usize,
    done: oneshot::Sender<Result<(), Refused>>,
}

#[derive(Debug)]
struct Refused {
    accepted: usize,
    error: Error,
}

/// Publishes a batch in order. The part that was handed over when the future is dropped may be published.
pub(crate) async fn publish(shared: &Shared, batch: &[Envelope]) -> Result<(), PublishError> {
    let mut accepted = 0;
    while let Some(rest) = batch.get(accepted..).filter(|rest| !rest.is_empty()) {
        shared
            .open()
            .map_err(|error| PublishError { accepted, error })?;
        let mut encoded = Encoded::default();
        let refused = encode(shared, rest, &mut encoded).await.err();
        let count = encoded.commands.len();
        if count > 0 {
            send(shared, encoded)
                .await
                .map_err(|refused| PublishError {
                    accepted: accepted + refused.accepted,
                    error: refused.error,
                })?;
            accepted += count;
        }
        if let Some(error) = refused {
            return Err(PublishError { accepted, error });
        }
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Encoded {
    commands: Vec<Cmd>,
    bytes: usize,
}

/// As much of a batch as goes at once. An error is about the event after that.
async fn encode(shared: &Shared, batch: &[Envelope], into: &mut Encoded) -> Result<()> {
    let mut last: Option<Arc<Topic>> = None;
    into.commands.reserve(batch.len().min(EVENTS_MAX));
    for event in batch {
        let topic = match last.take().filter(|topic| topic.name == event.topic) {
            Some(topic) => topic,
            None => shared.topics.find(&shared.link, &event.topic).await?,
        };
        let max = shared.config.event_bytes_max;
        if event.data.len() > max {
            return Err(entry::too_large(event.data.len(), max).with("id", &event.id));
        }
        let full = into.commands.len() == EVENTS_MAX || into.bytes + event.data.len() > BYTES_MAX;
        if full && !into.commands.is_empty() {
            return Ok(());
        }
        let form = shared.config.form;
        let place = |at: u16| {
            topic
                .places
                .get(usize::from(at))
                .ok_or_else(|| error::odd("place"))
        };
        let command = match shared.config.mode {
            Mode::Streams => {
                let partition = partition_of(event.order_key(), topic.partitions);
                entry::append(place(partition)?, form, event)?
            }
            Mode::PubSub => entry::tell(place(0)?, form, event)?,
        };
        into.bytes += event.data.len() + 512;
        into.commands.push(command);
        last = Some(topic);
    }
    Ok(())
}

async fn send(shared: &Shared, encoded: Encoded) -> Result<(), Refused> {
    let (done, answer) = oneshot::channel();
    let part = Part {
        commands: encoded.commands,
        bytes: encoded.bytes,
        done,
    };
    let closed = || Refused {
        accepted: 0,
        error: error::closed(),
    };
    let wait = async {
        shared.parts.send(part).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    };
    // The writer's own limits, and as much again for what waits before it.
    let late = |_| Refused {
        accepted: 0,
        error: error::late("events wait for a server that does not answer"),
    };
    timeout(shared.link.timeout() * 2, wait)
        .await
        .unwrap_or_else(|elapsed| Err(late(elapsed)))
}

/// The task that sends what is published. It ends when the transport is closed and nothing waits.
pub(crate) async fn write(shared: Arc<Shared>, mut parts: mpsc::Receiver<Part>) {
    let mut connection = None;
    let mut carried: Option<Part> = None;
    loop {
        let next = async {
            match carried.take() {
                Some(part) => Some(part),
                None => parts.recv().await,
            }
        };
        let first = tokio::select! {
            biased;
            part = next => part,
            () = shared.until_closed() => None,
        };
        let Some(first) = first else { return };
        let mut bytes = first.bytes;
        let mut together = vec![first];
        while let Ok(part) = parts.try_recv() {
            if bytes + part.bytes > BYTES_MAX {
                carried = Some(part);
                break;
            }
            bytes += part.bytes;
            together.push(part);
        }
        // Whoever does not wait any more has been told that it failed.
        together.retain(|part| !part.done.is_closed());
        if !together.is_empty() {
            transact(&shared, &mut connection, together).await;
        }
    }
}

/// Sends some parts as one transaction and tells who waits.
async fn transact(shared: &Shared, connection: &mut Option<Connection>, parts: Vec<Part>) {
    let mut pipe = Pipeline::with_capacity(parts.iter().map(|part| part.commands.len()).sum());
    let mut waiting = Vec::with_capacity(parts.len());
    for part in parts {
        waiting.push((part.commands.len(), part.done));
        for command in part.commands {
            pipe.add_command(command);
        }
    }
    match exchange(shared, connection, &mut pipe).await {
        Ok(answers) => {
            let mut answers = answers.into_iter();
            for (count, done) in waiting {
                // Whoever gave up waiting does not care.
                drop(done.send(judge(answers.by_ref().take(count))));
            }
        }
        Err(error) => {
            for (_, done) in waiting {
                let error = error::again(&error);
                drop(done.send(Err(Refused { accepted: 0, error })));
            }
        }
    }
}

/// The first refusal among the answers to somebody's events. What follows it in the transaction may have
/// been appended, to other streams: it comes again if it is sent again.
fn judge(answers: impl Iterator<Item = Value>) -> Result<(), Refused> {
    let doing = "an event could not be appended";
    for (accepted, answer) in answers.enumerate() {
        if let Err(error) = error::value(doing, answer) {
            return Err(Refused { accepted, error });
        }
    }
    Ok(())
}

async fn exchange(
    shared: &Shared,
    connection: &mut Option<Connection>,
    pipe: &mut Pipeline,
) -> Result<Vec<Value>> {
    let link = &shared.link;
    let open = match connection {
        Some(open) => open,
        None => connection.insert(link.connect().await?),
    };
    let doing = "events could not be appended";
    let answered = timeout(link.timeout(), ask(open, pipe)).await;
    let answers = match answered {
        Ok(Ok(answers)) => answers,
        Ok(Err(e)) => {
            if e.is_unrecoverable_error() {
                *connection = None;
            }
            return Err(link.placed(error::redis(doing, e)));
        }
        Err(_) => {
            *connection = None;
            return Err(link.placed(error::late(doing)));
        }
    };
    if shared.config.replicas > 0 && shared.config.mode == Mode::Streams {
        replicated(open, shared.config.replicas, link.timeout()).await?;
    }
    Ok(answers)
}

async fn ask(open: &mut Connection, pipe: &mut Pipeline) -> redis::RedisResult<Vec<Value>> {
    let count = pipe.len();
    if count == 1 {
        return open.req_packed_commands(pipe, 0, 1).await;
    }
    pipe.atomic();
    let mut answers = open.req_packed_commands(pipe, count + 1, 1).await?;
    match answers.pop() {
        Some(Value::Array(answers)) => Ok(answers),
        Some(Value::ServerError(error)) => Err(error.into()),
        _ => Err((
            redis::ErrorKind::UnexpectedReturnType,
            "EXEC gave no answers",
        )
            .into()),
    }
}

/// Waits until enough replicas have what was written on this connection.
async fn replicated(open: &mut Connection, replicas: u32, limit: Duration) -> Result<()> {
    let doing = "the replicas could not be waited for";
    let mut cmd = Cmd::new();
    let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    cmd.arg("WAIT").arg(replicas).arg(millis);
    let answered = timeout(limit * 2, open.req_packed_command(&cmd)).await;
    let answer = answered
        .map_err(|_| error::late(doing))?
        .map_err(|e| error::redis(doing, e))?;
    let have = value::integer(&error::value(doing, answer)?).unwrap_or_default();
    if have >= i64::from(replicas) {
        return Ok(());
    }
    let message = "too few replicas have the events; the server itself has them";
    Err(Error::unavailable("redis_no_replicas", message)
        .with_retry(Retry::Unknown)
        .with("expected", replicas)
        .with("found", have))
}
