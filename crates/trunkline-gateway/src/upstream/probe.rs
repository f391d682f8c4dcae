//! Asking targets how they are.

use std::sync::Weak;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Request};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};
use trunkline_call::{Body, Stage, Wire, WireConfig};
use trunkline_core::{Error, Result, report};

use super::health::Said;
use super::link::host_of;
use super::{Group, Member};
use crate::config::Protocol;

/// No more often than this, whatever the file says.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// And no less often.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Asks the targets of a group, those that are healthy and those that are not each as often as the file says, until the
/// group is gone.
///
/// # Guarantees
/// As many are asked at once as `concurrency` says, and each has the file's `timeout`. Who has not been asked when the next
/// round is due is asked then: rounds do not overlap.
pub(super) async fn ask(group: Weak<Group>) {
    let Some(intervals) = group.upgrade().map(|group| {
        let active = &group.config.healthchecks.active;
        [active.healthy_interval, active.unhealthy_interval].map(seconds)
    }) else {
        return;
    };
    let [mut healthy, mut unhealthy] = intervals.map(|each| {
        each.map(|each| {
            let mut ticks = interval(each.clamp(INTERVAL_MIN, INTERVAL_MAX));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        })
    });
    loop {
        let is_healthy = tokio::select! {
            biased;
            () = next(&mut unhealthy) => false,
            () = next(&mut healthy) => true,
        };
        let Some(group) = group.upgrade() else {
            return;
        };
        let asked = group.members.iter().enumerate().filter(|(_, member)| {
            member.weight > 0 && member.vitals.health.is_healthy() == is_healthy
        });
        let asked: Vec<usize> = asked.map(|(index, _)| index).collect();
        let many = usize::try_from(group.config.healthchecks.active.concurrency).unwrap_or(1);
        let asking = stream::iter(asked).map(|index| {
            let group = &group;
            async move {
                if let Some(member) = group.members.get(index) {
                    let said = group.probe(member).await;
                    group.judge(index, said, &group.active);
                }
            }
        });
        asking.buffer_unordered(many.max(1)).collect::<()>().await;
    }
}

/// A time of the file in seconds; none is never.
fn seconds(seconds: f64) -> Option<Duration> {
    let is_time = seconds > 0.0;
    is_time.then(|| Duration::try_from_secs_f64(seconds).unwrap_or(INTERVAL_MAX))
}

async fn next(ticks: &mut Option<tokio::time::Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}

impl Group {
    /// How a target is.
    async fn probe(&self, member: &Member) -> Said {
        let active = &self.config.healthchecks.active;
        let within = seconds(active.timeout).unwrap_or(INTERVAL_MIN);
        let asked = timeout(within, async {
            if active.tcp_only {
                let host = member.host.trim_matches(['[', ']']);
                let connected = TcpStream::connect((host, member.port)).await;
                return connected.map(|_| Said::Well).map_err(|error| {
                    Error::unavailable("target_unreachable", "no connection").with_source(error)
                });
            }
            self.probe_http(member, within).await
        });
        match asked.await {
            Err(_) => Said::Late,
            Ok(Ok(said)) => said,
            Ok(Err(error)) => {
                let (upstream, target) = (&*self.name, &*member.name);
                tracing::debug!(upstream, target, error = %report(&error), "target is not reached");
                Said::Nothing
            }
        }
    }

    /// What it answers on a connection of its own.
    async fn probe_http(&self, member: &Member, within: Duration) -> Result<Said> {
        let active = &self.config.healthchecks.active;
        let mut config = WireConfig::new(&*member.host, member.port);
        config.connect_within = within;
        config.tls = self.tls.clone();
        if let Some(tls) = config.tls.as_mut().filter(|tls| tls.name.is_empty()) {
            tls.name.clone_from(&member.host);
        }
        let protocol = match active.https {
            true => Protocol::Https,
            false => Protocol::Http,
        };
        let mut request = Request::get(&*active.http_path)
            .header(HOST, host_of(self, member, protocol))
            .header(CONNECTION, "close")
            .header(USER_AGENT, "trunkline-health")
            .body(Body::empty())
            .map_err(|error| Error::internal("a question has a path").with_source(error))?;
        for (name, values) in &active.headers {
            for value in values {
                let name = HeaderName::try_from(&**name);
                if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(&**value)) {
                    request.headers_mut().append(name, value);
                }
            }
        }
        let wire = Wire::new(config)?;
        let answer = wire.send(request, &Stage::default()).await;
        let answer = answer.map_err(|unanswered| unanswered.error)?;
        Ok(Said::Status(answer.status().as_u16()))
    }
}
