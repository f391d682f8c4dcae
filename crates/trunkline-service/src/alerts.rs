//! Who is told of dead letters, and of sagas that are parked.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use trunkline_bus::{Changes, DeadLetter, DeadLetterQuery, ParkingLot, Reservation};
use trunkline_call::{Client, Network};
use trunkline_core::{ByteString, Context, Env, Error, Result, Timestamp, report};
use trunkline_saga::Instance;

use crate::platform::PLATFORM;

/// The name of the webhook on the network.
const WEBHOOK: &str = "trunkline.webhook";
/// More alerts that wait to be sent are dropped, with a line in the log: the letters themselves are kept.
const WAITING_MAX: usize = 256;
/// How often an alert is sent in vain.
const ATTEMPTS_MAX: u32 = 3;
/// The pause after the first failure; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the other side may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub(crate) type Hook = Arc<dyn Fn(&DeadLetter) + Send + Sync>;
pub(crate) type SagaHook = Arc<dyn Fn(&str, &Instance) + Send + Sync>;

/// What a platform calls by itself.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) dead_letter: Option<Hook>,
    pub(crate) saga_parked: Option<SagaHook>,
}

/// What the webhook is told.
struct Alert {
    /// The letter's or the instance's.
    id: ByteString,
    correlation_id: ByteString,
    told: Value,
}

impl Alert {
    /// Of a letter: what failed and why, what is said of it, and not what is in the event.
    fn of(letter: &DeadLetter, alert: &str, said: Value) -> Self {
        let event = &letter.envelope;
        let mut told = json!({
            "alert": alert,
            "letter_id": &*letter.id,
            "group": &*letter.group,
            "key": &*letter.key,
            "event_id": &*event.id,
            "event_type": &*event.event_type,
            "correlation_id": &*event.correlation_id,
            "code": letter.code,
            "error": letter.error,
            "attempts": letter.attempts,
            "recoveries": letter.recoveries,
            "parked_at": letter.parked_at,
        });
        if let (Value::Object(told), Value::Object(said)) = (&mut told, said) {
            told.extend(said);
        }
        Self {
            id: letter.id.clone(),
            correlation_id: event.correlation_id.clone(),
            told,
        }
    }
}

/// Where alerts go. One is raised for each key that is parked, when its first letter is kept, for each decision of a service about one of
/// its letters, and for each instance of a saga that is parked.
#[derive(Clone, Default)]
pub(crate) struct Alerts {
    hooks: Hooks,
    webhook: Option<mpsc::Sender<Alert>>,
}

impl Alerts {
    /// Alerts for hooks and a webhook, and what sends those of the webhook.
    ///
    /// # Errors
    /// `InvalidInput` for a webhook that is no `http://host/path`.
    pub(crate) fn new(
        hooks: Hooks,
        url: Option<&str>,
        network: &Network,
    ) -> Result<(Self, Option<Sender>)> {
        let Some(url) = url else {
            let webhook = None;
            return Ok((Self { hooks, webhook }, None));
        };
        let bad = || {
            let text =
                "expected `alerts.webhook` to be an address such as http://127.0.0.1:9093/alerts";
            Error::invalid("config_invalid", text).with("webhook", url)
        };
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let authority = uri.authority().ok_or_else(bad)?;
        let scheme = uri.scheme_str().unwrap_or_default();
        let place = format!("{scheme}://{authority}");
        let outside = network.outside(WEBHOOK, &place);
        outside.map_err(|_| bad())?;
        let (webhook, waiting) = mpsc::channel(WAITING_MAX);
        let sender = Sender {
            network: network.clone(),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            waiting,
        };
        let webhook = Some(webhook);
        Ok((Self { hooks, webhook }, Some(sender)))
    }

    /// A lot that tells of what is parked in it.
    pub(crate) fn over(&self, lot: Arc<dyn ParkingLot>) -> Arc<dyn ParkingLot> {
        if self.hooks.dead_letter.is_none() && self.webhook.is_none() {
            return lot;
        }
        Arc::new(Telling {
            lot,
            alerts: self.clone(),
        })
    }

    fn raise(&self, letter: &DeadLetter) {
        if let Some(hook) = &self.hooks.dead_letter
            && catch_unwind(AssertUnwindSafe(|| hook(letter))).is_err()
        {
            tracing::error!(
                group = &*letter.group,
                letter_id = &*letter.id,
                "the hook for dead letters panicked"
            );
        }
        self.post(|| Alert::of(letter, "dead_letter", json!({})));
    }

    /// A service has decided about a dead letter.
    pub(crate) fn decided(&self, letter: &DeadLetter, retry_at: Option<Timestamp>) {
        self.post(|| {
            let decision = if retry_at.is_some() { "retry" } else { "keep" };
            let said = json!({ "decision": decision, "retry_at": retry_at });
            Alert::of(letter, "dead_letter_decided", said)
        });
    }

    /// A dead letter was replayed by itself, and handled.
    pub(crate) fn recovered(&self, letter: &DeadLetter) {
        self.post(|| Alert::of(letter, "dead_letter_recovered", json!({})));
    }

    /// An instance of a service's saga is parked.
    pub(crate) fn saga_parked(&self, service: &str, instance: &Instance) {
        if let Some(hook) = &self.hooks.saga_parked
            && catch_unwind(AssertUnwindSafe(|| hook(service, instance))).is_err()
        {
            tracing::error!(service, saga = &*instance.saga, id = %instance.id, "the hook for parked sagas panicked");
        }
        self.post(|| Alert {
            id: instance.id.to_string().into(),
            correlation_id: instance.correlation_id.clone(),
            told: told_of_saga(service, instance),
        });
    }

    fn post(&self, alert: impl FnOnce() -> Alert) {
        let Some(webhook) = &self.webhook else { return };
        let alert = alert();
        let id = alert.id.clone();
        if webhook.try_send(alert).is_err() {
            tracing::error!(
                id = &*id,
                "too many alerts wait for the webhook: this one is dropped"
            );
        }
    }
}

#[derive(Debug)]
struct Telling {
    lot: Arc<dyn ParkingLot>,
    alerts: Alerts,
}

impl ParkingLot for Telling {
    fn park<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<Vec<ByteString>>> {
        Box::pin(async move {
            let free = self.lot.park(letters).await?;
            // Those without an error wait behind one that has been told of.
            for letter in letters.iter().filter(|letter| letter.error.is_some()) {
                self.alerts.raise(letter);
            }
            Ok(free)
        })
    }

    fn parked_keys<'a>(
        &'a self,
        group: &'a str,
        among: Option<&'a [ByteString]>,
    ) -> BoxFuture<'a, Result<Vec<ByteString>>> {
        self.lot.parked_keys(group, among)
    }

    fn list<'a>(&'a self, query: &'a DeadLetterQuery) -> BoxFuture<'a, Result<Vec<DeadLetter>>> {
        self.lot.list(query)
    }

    fn update<'a>(&'a self, letter: &'a DeadLetter) -> BoxFuture<'a, Result<()>> {
        self.lot.update(letter)
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        self.lot.remove(id)
    }

    fn changes(&self) -> Changes {
        self.lot.changes()
    }

    fn reserve<'a>(
        &'a self,
        group: &'a str,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Reservation>>>> {
        self.lot.reserve(group)
    }
}

/// Sends alerts to the webhook.
pub(crate) struct Sender {
    network: Network,
    path: String,
    waiting: mpsc::Receiver<Alert>,
}

impl Sender {
    /// Sends until `stop`, then what waits by then.
    pub(crate) async fn run(mut self, env: Env, stop: CancellationToken) {
        loop {
            let alert = tokio::select! {
                biased;
                alert = self.waiting.recv() => alert,
                () = stop.cancelled(), if !self.waiting.is_closed() => {
                    self.waiting.close();
                    continue;
                }
            };
            let Some(alert) = alert else { return };
            self.send(&alert, &env).await;
        }
    }

    async fn send(&self, alert: &Alert, env: &Env) {
        let mut context = Context::root(env);
        context.correlation_id = alert.correlation_id.clone();
        // It tries again by itself, for longer than a call does.
        let channel = self.network.channel(PLATFORM, WEBHOOK).bare();
        let client = Client::new(channel, context);
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS_MAX {
            let post = client.post(self.path.as_str()).json(&alert.told);
            let Err(error) = post.timeout(ANSWER_WITHIN).send_empty().await else {
                return;
            };
            tracing::warn!(
                service = PLATFORM, id = &*alert.id, attempt, error = %report(&error),
                "an alert could not be sent"
            );
            if attempt < ATTEMPTS_MAX {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
}

/// What the webhook is told of an instance: which and why, and not what is in it.
fn told_of_saga(service: &str, instance: &Instance) -> Value {
    let error = instance.error.as_ref();
    json!({
        "alert": "saga_parked",
        "service": service,
        "saga": &*instance.saga,
        "saga_id": instance.id,
        "key": &*instance.key,
        "correlation_id": &*instance.correlation_id,
        "code": error.map(|error| &*error.code),
        "error": error.map(|error| &*error.message),
        "parked_at": instance.changed_at,
    })
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alerts")
            .field("hook", &self.hooks.dead_letter.is_some())
            .field("webhook", &self.webhook.is_some())
            .finish()
    }
}
