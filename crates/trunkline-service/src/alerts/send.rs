//! Sends the alerts of one store to the webhook.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use trunkline_call::Client;
use trunkline_core::{ByteString, Context, Env, Result, Retry, report};
use trunkline_store::{Alert, Alerts, Store};

use super::{WEBHOOK, Webhook};
use crate::platform::PLATFORM;

/// The pause after an alert was sent in vain; it doubles up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// An alert that the other side refuses for good is sent so often: it may be about to be set right.
const REFUSALS_MAX: u32 = 10;
/// What can't be sent for so long is given up; the letters themselves are kept.
const AGE_MAX: Duration = Duration::from_hours(24);
/// If more wait than this, the oldest are given up.
const WAITING_MAX: u32 = 100_000;
/// Of one sort about one group, so many are told one by one in a round; if there are more, one call tells of all.
const SINGLES_MAX: usize = 20;
/// A round ends this long before the next, so that many come together.
const ROUND: Duration = Duration::from_secs(1);
/// What a process left that has died is found after this, at the latest.
const SWEEP: Duration = Duration::from_secs(10);
/// How long the other side may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What is told in one call.
#[derive(Debug, PartialEq)]
struct Call {
    /// The alerts that it tells of.
    seqs: Vec<i64>,
    /// The letter or instance, or the first of them.
    subject: ByteString,
    correlation_id: ByteString,
    body: Value,
}

/// Sends what waits in one store: one call after the other, in the order of the commits, by one process at a time.
pub(crate) struct Sender {
    webhook: Arc<Webhook>,
    alerts: Alerts,
    service: ByteString,
    env: Env,
    /// How often the oldest was refused for good.
    refusals: (i64, u32),
}

impl Sender {
    pub(super) fn new(webhook: Arc<Webhook>, store: &Store) -> Self {
        Self {
            webhook,
            alerts: store.alerts(),
            service: store.service().clone(),
            env: store.env().clone(),
            refusals: (0, 0),
        }
    }

    /// Sends until `stop`. What is not sent by then is at the next start.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        let (mut pause, longest) = PAUSES;
        loop {
            match self.round().await {
                Ok(sent) => {
                    pause = PAUSES.0;
                    if sent {
                        sleep(ROUND).await;
                    } else {
                        timeout(SWEEP, self.alerts.written()).await.ok();
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        service = &*self.service, error = %report(&error),
                        "alerts could not be sent; it is tried again"
                    );
                    self.give_up().await;
                    sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
            }
        }
    }

    /// Sends what waits, some or all of it; false if nothing does, or another process sends.
    async fn round(&mut self) -> Result<bool> {
        if self.alerts.waiting().await?.is_empty() {
            return Ok(false);
        }
        let Some(mut alone) = self.alerts.reserve().await? else {
            return Ok(false);
        };
        for call in calls(&self.alerts.waiting().await?) {
            alone.check().await?;
            let sent = self.send(&call).await;
            self.judge(&call, sent)?;
            self.alerts.remove(&call.seqs).await?;
        }
        Ok(true)
    }

    /// Whether a call is done with: it was sent, or refused so often that it never will be.
    fn judge(&mut self, call: &Call, sent: Result<()>) -> Result<()> {
        let Err(error) = sent else { return Ok(()) };
        if error.retry() != Retry::Permanent {
            return Err(error);
        }
        let first = call.seqs.first().copied().unwrap_or_default();
        let before = if self.refusals.0 == first {
            self.refusals.1
        } else {
            0
        };
        self.refusals = (first, before + 1);
        if self.refusals.1 < REFUSALS_MAX {
            return Err(error);
        }
        tracing::error!(
            service = &*self.service, id = &*call.subject, alerts = call.seqs.len(), error = %report(&error),
            "the webhook refuses an alert: it is given up"
        );
        Ok(())
    }

    async fn send(&self, call: &Call) -> Result<()> {
        let mut context = Context::root(&self.env);
        context.correlation_id = call.correlation_id.clone();
        // It tries again by itself, for longer than a call does.
        let channel = self.webhook.network.channel(PLATFORM, WEBHOOK).bare();
        let post = Client::new(channel, context)
            .post(self.webhook.path.as_str())
            .json(&call.body);
        post.timeout(ANSWER_WITHIN).send_empty().await.map(drop)
    }

    async fn give_up(&self) {
        let given_up = self.alerts.give_up(AGE_MAX, WAITING_MAX).await;
        if let Ok(alerts @ 1..) = given_up {
            tracing::error!(
                service = &*self.service,
                alerts,
                "alerts could not be sent for too long, or too many wait: the oldest are given up"
            );
        }
    }
}

/// What is told of these alerts, in their order: one by one, or together where there are many of a sort.
fn calls(waiting: &[Alert]) -> Vec<Call> {
    let mut sorts: HashMap<(&ByteString, &ByteString), Vec<&Alert>> = HashMap::new();
    for alert in waiting {
        sorts
            .entry((&alert.alert, &alert.about))
            .or_default()
            .push(alert);
    }
    let mut calls = Vec::new();
    for alert in waiting {
        let sort = (&alert.alert, &alert.about);
        match sorts.get(&sort).map(Vec::as_slice) {
            Some(many @ [first, .., last]) if many.len() > SINGLES_MAX => {
                calls.push(Call {
                    seqs: many.iter().map(|one| one.seq).collect(),
                    ..together(first, last, many.len())
                });
                sorts.remove(&sort);
            }
            Some(_) => calls.push(single(alert)),
            // Told with the first of its sort.
            None => {}
        }
    }
    calls
}

fn single(alert: &Alert) -> Call {
    Call {
        seqs: vec![alert.seq],
        subject: alert.subject.clone(),
        correlation_id: alert.correlation_id.clone(),
        body: alert.told.clone(),
    }
}

fn together(first: &Alert, last: &Alert, count: usize) -> Call {
    let body = json!({
        "alert": "many",
        "of": &*first.alert,
        "about": &*first.about,
        "count": count,
        "first": first.told,
        "last": last.told,
    });
    Call {
        body,
        ..single(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(seq: i64, alert: &str, about: &str) -> Alert {
        Alert {
            seq,
            alert: alert.into(),
            about: about.into(),
            subject: format!("letter-{seq}").into(),
            correlation_id: "flow".into(),
            told: json!({ "seq": seq }),
        }
    }

    fn told(waiting: &[Alert]) -> Vec<(Vec<i64>, Value)> {
        let calls = calls(waiting).into_iter();
        calls.map(|call| (call.seqs, call.body)).collect()
    }

    #[test]
    fn few_are_told_one_by_one_in_their_order() {
        let few = [
            alert(1, "dead_letter", "a"),
            alert(2, "dead_letter_decided", "a"),
            alert(4, "dead_letter", "b"),
        ];
        let expected = [1, 2, 4].map(|seq| (vec![seq], json!({ "seq": seq })));
        assert_eq!(told(&few), expected);
        assert_eq!(told(&[]), []);
    }

    #[test]
    fn a_storm_is_one_call_for_each_sort_and_group() {
        let mut storm: Vec<_> = (2..=999)
            .map(|seq| alert(seq, "dead_letter", "a"))
            .collect();
        storm.insert(0, alert(1, "dead_letter", "b"));
        storm.push(alert(1_000, "dead_letter_decided", "a"));
        let told = told(&storm);
        let seqs: Vec<_> = told.iter().map(|(seqs, _)| seqs.len()).collect();
        assert_eq!(seqs, [1, 998, 1]);
        let expected = json!({
            "alert": "many", "of": "dead_letter", "about": "a", "count": 998,
            "first": { "seq": 2 }, "last": { "seq": 999 },
        });
        assert_eq!(told[1].1, expected);
        // At the bound they are still told one by one.
        let some: Vec<_> = (0..20).map(|seq| alert(seq, "dead_letter", "a")).collect();
        assert_eq!(calls(&some).len(), SINGLES_MAX);
    }
}
