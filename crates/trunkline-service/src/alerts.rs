//! Who is told of dead letters.

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
use trunkline_core::{ByteString, Context, Env, Error, Result, report};

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

/// Where alerts go. One is raised for each key that is parked, when its first letter is kept; at least once.
#[derive(Clone, Default)]
pub(crate) struct Alerts {
    hook: Option<Hook>,
    webhook: Option<mpsc::Sender<DeadLetter>>,
}

impl Alerts {
    /// Alerts for a hook and a webhook, and what sends those of the webhook.
    ///
    /// # Errors
    /// `InvalidInput` for a webhook that is no `http://host/path`.
    pub(crate) fn new(
        hook: Option<Hook>,
        url: Option<&str>,
        network: &Network,
    ) -> Result<(Self, Option<Sender>)> {
        let Some(url) = url else {
            let webhook = None;
            return Ok((Self { hook, webhook }, None));
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
        Ok((Self { hook, webhook }, Some(sender)))
    }

    /// A lot that tells of what is parked in it.
    pub(crate) fn over(&self, lot: Arc<dyn ParkingLot>) -> Arc<dyn ParkingLot> {
        if self.hook.is_none() && self.webhook.is_none() {
            return lot;
        }
        Arc::new(Telling {
            lot,
            alerts: self.clone(),
        })
    }

    fn raise(&self, letter: &DeadLetter) {
        if let Some(hook) = &self.hook
            && catch_unwind(AssertUnwindSafe(|| hook(letter))).is_err()
        {
            tracing::error!(
                group = &*letter.group,
                letter_id = &*letter.id,
                "the hook for dead letters panicked"
            );
        }
        if let Some(webhook) = &self.webhook
            && webhook.try_send(letter.clone()).is_err()
        {
            tracing::error!(
                group = &*letter.group,
                letter_id = &*letter.id,
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
    waiting: mpsc::Receiver<DeadLetter>,
}

impl Sender {
    /// Sends until `stop`, then what waits by then.
    pub(crate) async fn run(mut self, env: Env, stop: CancellationToken) {
        loop {
            let letter = tokio::select! {
                biased;
                letter = self.waiting.recv() => letter,
                () = stop.cancelled(), if !self.waiting.is_closed() => {
                    self.waiting.close();
                    continue;
                }
            };
            let Some(letter) = letter else { return };
            self.send(&letter, &env).await;
        }
    }

    async fn send(&self, letter: &DeadLetter, env: &Env) {
        let mut context = Context::root(env);
        context.correlation_id = letter.envelope.correlation_id.clone();
        // It tries again by itself, for longer than a call does.
        let channel = self.network.channel(PLATFORM, WEBHOOK).bare();
        let client = Client::new(channel, context);
        let told = told(letter);
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS_MAX {
            let post = client.post(self.path.as_str()).json(&told);
            let Err(error) = post.timeout(ANSWER_WITHIN).send_empty().await else {
                return;
            };
            tracing::warn!(
                service = PLATFORM, letter_id = &*letter.id, attempt, error = %report(&error),
                "an alert could not be sent"
            );
            if attempt < ATTEMPTS_MAX {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
}

/// What the webhook is told: what failed and why, and not what is in the event.
fn told(letter: &DeadLetter) -> Value {
    let event = &letter.envelope;
    json!({
        "alert": "dead_letter",
        "letter_id": &*letter.id,
        "group": &*letter.group,
        "key": &*letter.key,
        "event_id": &*event.id,
        "event_type": &*event.event_type,
        "correlation_id": &*event.correlation_id,
        "code": letter.code,
        "error": letter.error,
        "attempts": letter.attempts,
        "parked_at": letter.parked_at,
    })
}

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alerts")
            .field("hook", &self.hook.is_some())
            .field("webhook", &self.webhook.is_some())
            .finish()
    }
}
