//! Who is told of dead letters, and of sagas that are parked.

mod send;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::future::BoxFuture;
use http::Uri;
use trunkline_bus::{Changes, DeadLetter, DeadLetterQuery, ParkingLot, Reservation};
use trunkline_call::Network;
use trunkline_core::{ByteString, Env, Error, Result};
use trunkline_saga::Instance;
use trunkline_store::{Store, StoreConfig};

pub(crate) use self::send::Sender;

/// The name of the webhook on the network.
const WEBHOOK: &str = "trunkline.webhook";

pub(crate) type Hook = Arc<dyn Fn(&DeadLetter) + Send + Sync>;
pub(crate) type SagaHook = Arc<dyn Fn(&str, &Instance) + Send + Sync>;

/// What a platform calls by itself.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) dead_letter: Option<Hook>,
    pub(crate) saga_parked: Option<SagaHook>,
}

/// Where alerts are sent.
pub(crate) struct Webhook {
    network: Network,
    path: String,
}

/// Where alerts go. One is raised for each key that is parked, when its first letter is kept, for each decision of a service about one of
/// its letters, for each that it recovers, and for each instance of a saga that is parked. Stores write down those for the webhook, in
/// the transaction of what happened; the hooks are called after it.
#[derive(Clone, Default)]
pub(crate) struct Alerts {
    hooks: Hooks,
    webhook: Option<Arc<Webhook>>,
}

impl Alerts {
    /// Alerts for hooks and a webhook.
    ///
    /// # Errors
    /// `InvalidInput` for a webhook that is no `http://host/path`.
    pub(crate) fn new(hooks: Hooks, url: Option<&str>, network: &Network) -> Result<Self> {
        let webhook = url.map(|url| webhook(url, network).map(Arc::new));
        let webhook = webhook.transpose()?;
        Ok(Self { hooks, webhook })
    }

    /// Opens a store that writes its alerts down if they are sent.
    pub(crate) async fn open(&self, url: &str, service: &str, env: &Env) -> Result<Store> {
        let mut config = StoreConfig::new(url, service);
        config.alerts = self.webhook.is_some();
        Store::open_with(config, env.clone()).await
    }

    /// Who sends the alerts of a store, if there is a webhook.
    pub(crate) fn sender(&self, store: &Store) -> Option<Sender> {
        let webhook = self.webhook.clone()?;
        Some(Sender::new(webhook, store))
    }

    /// A lot that tells the hook of what is parked in it.
    pub(crate) fn over(&self, lot: Arc<dyn ParkingLot>) -> Arc<dyn ParkingLot> {
        if self.hooks.dead_letter.is_none() {
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
    }

    /// An instance of a service's saga is parked.
    pub(crate) fn saga_parked(&self, service: &str, instance: &Instance) {
        if let Some(hook) = &self.hooks.saga_parked
            && catch_unwind(AssertUnwindSafe(|| hook(service, instance))).is_err()
        {
            tracing::error!(service, saga = &*instance.saga, id = %instance.id, "the hook for parked sagas panicked");
        }
    }
}

fn webhook(url: &str, network: &Network) -> Result<Webhook> {
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
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(Webhook {
        network: network.clone(),
        path: path.to_owned(),
    })
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

    fn handled<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        self.lot.handled(id)
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

impl fmt::Debug for Alerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alerts")
            .field("hook", &self.hooks.dead_letter.is_some())
            .field("webhook", &self.webhook.is_some())
            .finish()
    }
}
