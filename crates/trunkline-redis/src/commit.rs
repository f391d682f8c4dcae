//! Writing what was settled, in batches, and only while the partition is the member's own.

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Pipeline};
use tokio::time::{Instant, sleep, sleep_until};
use trunkline_core::Result;

use crate::cursor::Plan;
use crate::member::{End, Member};
use crate::script::{self, CONSUMER};
use crate::transport::Shared;
use crate::value;

/// How long settlements are collected before they are written; `flush` does not wait for it.
const DELAY: Duration = Duration::from_millis(2);

/// Writes settlements as they come, until the member ends.
pub(crate) async fn keep_writing(shared: Arc<Shared>, member: Arc<Member>) {
    while !member.has_ended() {
        let count_at = member.count_at();
        tokio::select! {
            biased;
            () = member.settled.notified() => sleep(DELAY).await,
            () = sleep_until(count_at.unwrap_or_else(Instant::now)), if count_at.is_some() => {}
        }
        let all = count_at.is_some_and(|at| Instant::now() >= at);
        if all {
            member.counted();
        }
        if let Err(error) = commit(&shared, &member, all).await {
            member.end(End::Failed(error));
        }
    }
}

/// Writes everything that is settled now. `all`: what is out is counted as delivered, too.
pub(crate) async fn commit(shared: &Shared, member: &Member, all: bool) -> Result<()> {
    let _one_at_a_time = member.writing.lock().await;
    let Some(group) = &member.group else {
        forget(member);
        return Ok(());
    };
    let mut plans = Vec::new();
    let mut pipe = Pipeline::new();
    {
        let state = member.state.lock();
        for (index, cursor) in state.cursors.iter().enumerate() {
            if let Some(plan) = cursor.plan(all) {
                let lease = shared.keys.lease(&cursor.topic, cursor.partition, group);
                let keys = [lease, cursor.stream.clone()];
                let mut cmd = script::eval(script::COMMIT, &keys);
                arguments(&mut cmd, member, group, &plan);
                pipe.add_command(cmd);
                plans.push((index, plan));
            }
        }
    }
    let doing = "what was settled could not be written";
    let answers = shared.link.calls(doing, &pipe).await?;
    let mut state = member.state.lock();
    for ((index, plan), answer) in plans.into_iter().zip(answers) {
        let Some(cursor) = state.cursors.get_mut(index) else {
            continue;
        };
        if value::integer(&answer) == Some(1) {
            cursor.apply(&plan);
        } else if cursor.tenure == plan.tenure {
            tracing::warn!(
                topic = %cursor.topic, partition = cursor.partition, %group,
                "another member has the partition by now; what was settled of it comes again there"
            );
            let out = cursor.close();
            state.forget(out);
        }
    }
    Ok(())
}

/// A reader's settlements are written nowhere.
fn forget(member: &Member) {
    let mut state = member.state.lock();
    for cursor in &mut state.cursors {
        while let Some(plan) = cursor.plan(false) {
            cursor.apply(&plan);
        }
    }
}

fn arguments(cmd: &mut Cmd, member: &Member, group: &str, plan: &Plan) {
    let (position, count) = match plan.position {
        Some((id, count)) => (id.to_string(), count.map(|count| count.to_string())),
        None => (String::new(), None),
    };
    cmd.arg(&*member.name)
        .arg(group)
        .arg(CONSUMER)
        .arg(position)
        .arg(count.unwrap_or_default())
        .arg(plan.acknowledge.len());
    for id in &plan.acknowledge {
        cmd.arg(id.to_string());
    }
    for same in plan.claim.chunk_by(|one, next| one.0 == next.0) {
        let tries = same.first().map_or(1, |(tries, _)| *tries);
        cmd.arg(tries).arg(same.len());
        for (_, id) in same {
            cmd.arg(id.to_string());
        }
    }
}
