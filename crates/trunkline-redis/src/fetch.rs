//! Reading streams: what is new, what was pending, what is due again.

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, Value};
use tokio::time::{Instant, timeout};
use trunkline_core::Result;

use crate::cursor::{Fetched, Phase};
use crate::entry::{Read, Reader};
use crate::id::Id;
use crate::link::Connection;
use crate::member::Member;
use crate::transport::Shared;
use crate::{error, value};

/// How many pending entries are looked up at once.
const PAGE: usize = 1000;
/// How many returned events of a cursor are fetched at once.
const AGAIN_MAX: usize = 64;

/// Asks for what is new in some streams and waits for it.
pub(crate) async fn read(shared: &Shared, connection: &mut Connection, cmd: &Cmd) -> Result<Value> {
    let doing = "streams could not be read";
    let limit = shared.config.takeover + shared.link.timeout();
    let answer = timeout(limit, connection.req_packed_command(cmd)).await;
    let answer = match answer {
        Ok(answer) => answer.map_err(|e| error::redis(doing, e)),
        Err(_) => Err(error::late(doing)),
    };
    answer
        .and_then(|answer| error::value(doing, answer))
        .map_err(|e| shared.link.placed(e))
}

/// The command for [`read`].
pub(crate) fn reading<'a>(
    shared: &Shared,
    count: usize,
    places: impl Iterator<Item = (&'a str, Id)> + Clone,
) -> Cmd {
    let mut cmd = Cmd::new();
    let block = u64::try_from(shared.config.takeover.as_millis()).unwrap_or(u64::MAX);
    cmd.arg("XREAD").arg("COUNT").arg(count);
    cmd.arg("BLOCK").arg(block).arg("STREAMS");
    for (stream, _) in places.clone() {
        cmd.arg(stream);
    }
    for (_, id) in places {
        cmd.arg(id.to_string());
    }
    cmd
}

/// An entry, read.
pub(crate) fn fetched(
    reader: &Reader,
    (topic, partition): (&bytestring::ByteString, u16),
    id: Id,
    fields: Vec<Value>,
) -> Fetched {
    let bytes = fields.iter().map(|field| match field {
        Value::BulkString(bytes) => bytes.len() + 32,
        _ => 32,
    });
    Fetched {
        id,
        bytes: bytes.sum(),
        read: entry(reader, (topic, partition), id, fields),
    }
}

fn entry(
    reader: &Reader,
    (topic, partition): (&bytestring::ByteString, u16),
    id: Id,
    fields: Vec<Value>,
) -> Read {
    reader.entry(topic, fields, || format!("{topic}/{partition}/{id}"))
}

/// Looks up what was pending in partitions that have just come, a page each. True if there is more to do.
pub(crate) async fn pending(shared: &Shared, member: &Member, group: &str) -> Result<bool> {
    let now = Instant::now();
    let mut pages = Vec::new();
    let mut pipe = Pipeline::new();
    {
        let state = member.state.lock();
        for (index, cursor) in state.cursors.iter().enumerate() {
            if let Phase::Pending(after) = cursor.phase
                && !cursor.is_due(now)
            {
                pipe.cmd("XPENDING")
                    .arg(&*cursor.stream)
                    .arg(group)
                    .arg(format!("({after}"))
                    .arg("+")
                    .arg(PAGE);
                pages.push((index, cursor.tenure));
            }
        }
    }
    let doing = "pending entries could not be looked up";
    let answers = shared.link.calls(doing, &pipe).await?;
    let now = Instant::now();
    let mut state = member.state.lock();
    let any = !pages.is_empty();
    for ((index, tenure), answer) in pages.into_iter().zip(answers) {
        let page = page(answer).ok_or_else(|| error::odd(doing))?;
        let next = page
            .last()
            .filter(|_| page.len() == PAGE)
            .map(|(id, _)| *id);
        if let Some(cursor) = state.cursors.get_mut(index)
            && cursor.tenure == tenure
        {
            cursor.pend(&page, next, now);
        }
    }
    Ok(any)
}

/// Ids with how often each was delivered.
fn page(answer: Value) -> Option<Vec<(Id, u32)>> {
    let one = |value| {
        let parts = value::array(value)?;
        let tries = value::integer(parts.get(3)?)?;
        Some((
            value::id(parts.first()?)?,
            u32::try_from(tries).unwrap_or(u32::MAX),
        ))
    };
    value::array(answer)?.into_iter().map(one).collect()
}

/// Fetches what was returned and is due. True if there was anything.
pub(crate) async fn again(shared: &Shared, member: &Member) -> Result<bool> {
    let now = Instant::now();
    let mut wanted = Vec::new();
    let mut pipe = Pipeline::new();
    {
        let mut state = member.state.lock();
        for (index, cursor) in state.cursors.iter_mut().enumerate() {
            for id in cursor.fetch_due(AGAIN_MAX, now) {
                let id_text = id.to_string();
                pipe.cmd("XRANGE")
                    .arg(&*cursor.stream)
                    .arg(&id_text)
                    .arg(&id_text);
                let place = (cursor.topic.clone(), cursor.partition);
                wanted.push((index, cursor.tenure, id, place));
            }
        }
    }
    if wanted.is_empty() {
        return Ok(false);
    }
    let doing = "an entry could not be read again";
    let answers = shared.link.calls(doing, &pipe).await?;
    let mut reads = Vec::with_capacity(wanted.len());
    for ((index, tenure, id, place), answer) in wanted.into_iter().zip(answers) {
        let found = value::entries(answer).ok_or_else(|| error::odd(doing))?;
        let fields = found.into_iter().next().map(|(_, fields)| fields);
        let read = fields.map(|fields| entry(&shared.reader, (&place.0, place.1), id, fields));
        if read.is_none() {
            tracing::warn!(
                topic = %place.0, partition = place.1, %id,
                "an entry was deleted before it was handled; it counts as done"
            );
        }
        reads.push((index, tenure, id, read));
    }
    let mut state = member.state.lock();
    for (index, tenure, id, read) in reads {
        if let Some(cursor) = state.cursors.get_mut(index)
            && cursor.tenure == tenure
        {
            cursor.refill(id, read);
        }
    }
    drop(state);
    member.ready.notify_one();
    member.settled.notify_one();
    Ok(true)
}
