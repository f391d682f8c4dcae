//! Who of a group reads which partition.
//!
//! Each member has a lease on each of its partitions, and a place among the topic's members; both run out
//! unless it speaks up. Its fair share follows from how many members there are: it takes free partitions
//! up to it and gives back what it has beyond.

use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;
use trunkline_bus::Start;
use trunkline_core::{Error, Result};

use crate::cursor::Phase;
use crate::id::Id;
use crate::member::{Joined, Member};
use crate::script;
use crate::transport::Shared;
use crate::{error, value};

/// What a heartbeat on a topic said.
struct Beat {
    members: i64,
    share: usize,
    /// For each partition 0 (not its own), 1 (kept) or 2 (taken).
    states: Vec<i64>,
    opened: Vec<Opened>,
}

struct Opened {
    partition: usize,
    at: Id,
    count: Option<u64>,
}

/// Speaks up on all topics, takes what is free and begins to give back what is too much. Says on how many
/// topics the member is alone.
pub(crate) async fn beat(shared: &Shared, member: &Member, group: &str) -> Result<usize> {
    let doing = "the member of a group could not speak up";
    let mut pipe = Pipeline::new();
    for joined in &member.topics {
        pipe.add_command(heartbeat(shared, member, group, joined));
    }
    let lease_until = Instant::now() + shared.config.lease();
    let answers = shared.link.calls(doing, &pipe).await?;
    let mut alone = 0;
    for (joined, answer) in member.topics.iter().zip(answers) {
        let beat = parse(answer).ok_or_else(|| error::odd(doing))?;
        alone += usize::from(beat.members == 1);
        assign(member, joined, &beat, lease_until);
    }
    member.ready.notify_one();
    Ok(alone)
}

fn heartbeat(shared: &Shared, member: &Member, group: &str, joined: &Joined) -> Cmd {
    let topic = &joined.topic;
    let mut keys = vec![
        shared.keys.members(&topic.name, group),
        shared.keys.changes(&topic.name, group),
    ];
    for (partition, stream) in (0..).zip(&topic.places) {
        keys.push(shared.keys.lease(&topic.name, partition, group));
        keys.push(stream.clone());
    }
    // Odd partitions of different topics go to different members.
    let turn = topic.name.bytes().fold(0_u32, |turn, byte| {
        turn.wrapping_mul(31).wrapping_add(u32::from(byte)) & 0xffff
    });
    let mut cmd = script::eval(script::BEAT, &keys);
    cmd.arg(&*member.name)
        .arg(millis(shared))
        .arg(turn)
        .arg(group);
    let state = member.state.lock();
    for cursor in state
        .cursors
        .iter()
        .skip(joined.first)
        .take(topic.places.len())
    {
        cmd.arg(u8::from(cursor.is_held()));
    }
    cmd
}

fn millis(shared: &Shared) -> u64 {
    u64::try_from(shared.config.lease().as_millis()).unwrap_or(u64::MAX)
}

fn parse(answer: Value) -> Option<Beat> {
    let mut parts = value::array(answer)?.into_iter();
    let members = value::integer(&parts.next()?)?;
    let share = usize::try_from(value::integer(&parts.next()?)?).ok()?;
    parts.next()?;
    let states = value::array(parts.next()?)?;
    let states = states.iter().map(value::integer).collect::<Option<_>>()?;
    let opened = value::array(parts.next()?)?.into_iter().map(|opened| {
        let mut parts = value::array(opened)?.into_iter();
        Some(Opened {
            partition: usize::try_from(value::integer(&parts.next()?)?).ok()?,
            at: value::id(&parts.next()?)?,
            count: u64::try_from(value::integer(&parts.next()?)?).ok(),
        })
    });
    Some(Beat {
        members,
        share,
        states,
        opened: opened.collect::<Option<_>>()?,
    })
}

/// Brings the cursors of a topic in line with what the server says.
fn assign(member: &Member, joined: &Joined, beat: &Beat, lease_until: Instant) {
    let mut state = member.state.lock();
    let mut lost = 0;
    let now = Instant::now();
    for (number, kept) in beat.states.iter().enumerate() {
        let Some(cursor) = state.cursors.get_mut(joined.first + number) else {
            continue;
        };
        match kept {
            1 => cursor.lease_until = Some(lease_until),
            2 => {
                if let Some(opened) = beat.opened.iter().find(|one| one.partition == number) {
                    lost += cursor.open(opened.at, opened.count, Phase::Pending(Id::ZERO));
                    cursor.lease_until = Some(lease_until);
                }
            }
            _ if cursor.is_held() => {
                tracing::warn!(
                    topic = %cursor.topic, partition = cursor.partition,
                    "the lease ran out before it was renewed; another member may have the partition"
                );
                lost += cursor.close();
            }
            _ => {}
        }
    }
    state.forget(lost);
    let cursors = state.cursors.iter_mut().skip(joined.first);
    let mut held: Vec<_> = cursors
        .take(beat.states.len())
        .filter(|cursor| cursor.is_held())
        .collect();
    // What is given back already, and then what has the least out.
    held.sort_by_key(|cursor| (cursor.releasing.is_none(), cursor.out()));
    let surplus = held.len().saturating_sub(beat.share);
    for (number, cursor) in held.into_iter().enumerate() {
        cursor.releasing = (number < surplus).then(|| cursor.releasing.unwrap_or(now));
    }
}

/// Gives back some partitions (by their cursors); with `leave`, all of them and its place in the group.
pub(crate) async fn release(
    shared: &Shared,
    member: &Member,
    group: &str,
    cursors: &[usize],
    leave: bool,
) -> Result<()> {
    let mut pipe = Pipeline::new();
    for joined in &member.topics {
        let topic = &joined.topic;
        let range = joined.first..joined.first + topic.places.len();
        let mut keys = vec![
            shared.keys.members(&topic.name, group),
            shared.keys.changes(&topic.name, group),
        ];
        for (partition, index) in (0..).zip(range) {
            if leave || cursors.contains(&index) {
                keys.push(shared.keys.lease(&topic.name, partition, group));
            }
        }
        if keys.len() > 2 {
            let mut cmd = script::eval(script::RELEASE, &keys);
            cmd.arg(&*member.name).arg(u8::from(leave));
            pipe.add_command(cmd);
        }
    }
    let mut cmd = Cmd::new();
    cmd.arg("DEL").arg(&*shared.keys.wake(&member.name));
    if leave {
        pipe.add_command(cmd);
    }
    shared
        .link
        .calls("partitions could not be given back", &pipe)
        .await?;
    Ok(())
}

/// Moves a group of which the member is the only one: all of its cursors begin at `start`.
pub(crate) async fn relocate(
    shared: &Shared,
    member: &Member,
    group: &str,
    start: Start,
) -> Result<()> {
    let doing = "the group could not be moved";
    let streams: Vec<_> = {
        let state = member.state.lock();
        let cursors = state.cursors.iter().enumerate();
        let held = cursors.filter(|(_, cursor)| cursor.is_held());
        held.map(|(index, cursor)| {
            let lease = shared.keys.lease(&cursor.topic, cursor.partition, group);
            (index, [lease, cursor.stream.clone()])
        })
        .collect()
    };
    let places = starts(shared, streams.iter().map(|(_, keys)| &*keys[1]), start).await?;
    let mut pipe = Pipeline::new();
    for ((_, keys), place) in streams.iter().zip(&places) {
        let what = match start {
            Start::Earliest => "earliest",
            Start::Latest => "latest",
            _ => "",
        };
        let mut cmd = script::eval(script::MOVE, keys);
        cmd.arg(&*member.name)
            .arg(group)
            .arg(place.to_string())
            .arg(what);
        pipe.add_command(cmd);
    }
    let answers = shared.link.calls(doing, &pipe).await?;
    let mut state = member.state.lock();
    for ((index, _), answer) in streams.into_iter().zip(answers) {
        let mut parts = value::array(answer).unwrap_or_default().into_iter();
        let (Some(at), count) = (parts.next(), parts.next()) else {
            let message = "another member took the partition while the group was being moved";
            return Err(Error::conflict("group_moved", message).with("group", group));
        };
        let at = value::id(&at).ok_or_else(|| error::odd(doing))?;
        let count = count.as_ref().and_then(value::integer);
        if let Some(cursor) = state.cursors.get_mut(index) {
            let lease = cursor.lease_until;
            let count = count.and_then(|count| u64::try_from(count).ok());
            cursor.open(at, count, Phase::Fresh);
            cursor.lease_until = lease;
        }
    }
    Ok(())
}

/// The entry after which each stream is read to begin at `start`.
pub(crate) async fn starts<'a>(
    shared: &Shared,
    streams: impl Iterator<Item = &'a str>,
    start: Start,
) -> Result<Vec<Id>> {
    let wanted = match start {
        Start::Committed | Start::Earliest => Id::ZERO,
        Start::Latest => Id::MAX,
        Start::Offset(offset) => Id::before_offset(offset),
        Start::Time(time) => Id::before_millis(u64::try_from(time.as_millisecond()).unwrap_or(0)),
    };
    let mut pipe = Pipeline::new();
    for stream in streams {
        pipe.cmd("XREVRANGE")
            .arg(stream)
            .arg(&["+", "-", "COUNT", "1"]);
    }
    if wanted == Id::ZERO {
        return Ok(vec![wanted; pipe.len()]);
    }
    let doing = "the end of a stream could not be found";
    let answers = shared.link.calls(doing, &pipe).await?;
    let nearest = |answer| {
        let entries = value::entries(answer).ok_or_else(|| error::odd(doing))?;
        let last = entries.first().map_or(Id::ZERO, |(id, _)| *id);
        // A time to come is waited for; an offset to come is the next entry's.
        let is_time = matches!(start, Start::Time(_));
        Ok(if is_time { wanted } else { wanted.min(last) })
    };
    answers.into_iter().map(nearest).collect()
}
