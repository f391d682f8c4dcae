//! One connection, from when it is made to when it is lost.
//!
//! The client would reconnect by itself and then send what it had queued, although what it had sent just
//! before was lost with the connection: later events of a key before earlier ones. So a connection that is
//! lost stays lost here; whoever publishes or subscribes next makes a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::context::RequestErrorKind;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{self, Context, ContextBuilder};
use async_nats::{Auth, AuthError, Client, ConnectOptions, Event};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, watch};
use trunkline_core::{Error, Result};

use crate::config::{Credentials, NatsConfig};
use crate::error;

/// JetStream's codes for "not enabled", on the server and for the account.
const NOT_ENABLED: [u64; 2] = [10_076, 10_039];

/// A connection. It is dropped when it has ended and nobody uses it any more.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) js: Context,
    ended: Arc<watch::Sender<bool>>,
    pub(crate) timeout: Duration,
}

impl Link {
    async fn open(config: &NatsConfig) -> Result<Arc<Self>> {
        let ended = Arc::new(watch::Sender::new(false));
        let connected = Arc::new(AtomicBool::new(false));
        let options = options(config, &ended, &connected);
        let scheme = if config.tls { "tls" } else { "nats" };
        let servers = config.servers.iter();
        let servers: Vec<String> = servers.map(|at| format!("{scheme}://{at}")).collect();
        let made = tokio::time::timeout(config.timeout, options.connect(servers)).await;
        let client = match made {
            Ok(client) => client.map_err(|error| error::connect(error, &config.servers))?,
            Err(_) => {
                let error = Error::unavailable("nats_unreachable", "NATS did not answer in time");
                return Err(error.with("servers", config.servers.join(",")));
            }
        };
        // From now on; nothing was sent before.
        connected.store(true, Ordering::Release);
        // Publishes bound what is unconfirmed themselves; this bound is only not to be in their way.
        let js = ContextBuilder::new()
            .timeout(config.timeout)
            .ack_timeout(config.timeout)
            .max_ack_inflight(1 << 24)
            .build(client.clone());
        let link = Self {
            client,
            js,
            ended,
            timeout: config.timeout,
        };
        link.check_jetstream(config).await?;
        Ok(Arc::new(link))
    }

    async fn check_jetstream(&self, config: &NatsConfig) -> Result<()> {
        let nothing = serde_json::json!({});
        let asked = self
            .js
            .request::<_, _, Response<jetstream::account::Account>>("INFO", &nothing);
        match asked.await {
            Ok(Response::Ok(_)) => Ok(()),
            Ok(Response::Err { error }) if NOT_ENABLED.contains(&error.error_code().0) => {
                Err(error::disabled(&config.servers))
            }
            Ok(Response::Err { error }) => Err(error::refused("account info", error)),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                Err(error::disabled(&config.servers))
            }
            Err(error) => Err(error::request("account info", error)),
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        !*self.ended.borrow()
    }

    /// Gives the connection up: it answers no more, or nobody needs it.
    pub(crate) fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Waits until the connection is lost.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // The sender is ours: it is not dropped meanwhile.
        drop(ended.wait_for(|ended| *ended).await);
    }

    /// Waits for `work`, as long as the connection lives and the time allows.
    pub(crate) async fn within<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = T>,
    ) -> Result<T> {
        tokio::select! {
            biased;
            done = tokio::time::timeout(self.timeout, work) => done.map_err(|_| error::late(what)),
            () = self.ended() => Err(error::lost().with("request", what)),
        }
    }

    /// Asks JetStream's API. The inner error is its refusal.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        what: &'static str,
        subject: String,
        body: &impl Serialize,
    ) -> Result<Result<T, jetstream::Error>> {
        let asked = self.js.request::<_, _, Response<T>>(subject, body);
        match self.within(what, asked).await? {
            Ok(Response::Ok(answer)) => Ok(Ok(answer)),
            Ok(Response::Err { error }) => Ok(Err(error)),
            Err(error) => Err(error::request(what, error)),
        }
    }

    /// Asks JetStream's API for what it is not expected to refuse.
    pub(crate) async fn demand<T: DeserializeOwned>(
        &self,
        what: &'static str,
        subject: String,
        body: &impl Serialize,
    ) -> Result<T> {
        let answer = self.ask(what, subject, body).await?;
        answer.map_err(|error| error::refused(what, error))
    }
}

fn options(
    config: &NatsConfig,
    ended: &Arc<watch::Sender<bool>>,
    connected: &Arc<AtomicBool>,
) -> ConnectOptions {
    let mut auth = Auth::new();
    match &config.credentials {
        Credentials::None => {}
        Credentials::Password { user, password } => {
            auth.username = Some(user.clone());
            auth.password = Some(password.clone());
        }
        Credentials::Token(token) => auth.token = Some(token.clone()),
    }
    let lost = ended.clone();
    // The client has no setting "never reconnect"; but it asks for credentials each time, and gives up when
    // they are refused as often as there are servers.
    let connected = connected.clone();
    let options = ConnectOptions::with_auth_callback(move |_| {
        let again = connected.load(Ordering::Acquire);
        let auth = auth.clone();
        async move {
            if again {
                return Err(AuthError::new("a connection is made only once"));
            }
            Ok(auth)
        }
    });
    options
        .name("trunkline")
        .max_reconnects(config.servers.len())
        .ignore_discovered_servers()
        .connection_timeout(config.timeout)
        .request_timeout(Some(config.timeout))
        // A server that stands still is found out within three of these.
        .ping_interval(config.timeout)
        .event_callback(move |event| {
            let lost = lost.clone();
            async move {
                match event {
                    Event::Disconnected | Event::Closed => {
                        lost.send_replace(true);
                    }
                    Event::SlowConsumer(_) => {
                        // Messages were dropped here: whoever waits for them starts again.
                        tracing::warn!("NATS sent more than was taken; the connection is given up");
                        lost.send_replace(true);
                    }
                    other => tracing::debug!(event = %other, "NATS"),
                }
            }
        })
}

/// The present connection, made when it is asked for.
#[derive(Debug)]
pub(crate) struct Links {
    config: NatsConfig,
    current: Mutex<Option<Arc<Link>>>,
    closed: AtomicBool,
}

impl Links {
    /// Connects.
    pub(crate) async fn open(config: NatsConfig) -> Result<Self> {
        let link = Link::open(&config).await?;
        Ok(Self {
            config,
            current: Mutex::new(Some(link)),
            closed: AtomicBool::new(false),
        })
    }

    /// The connection, made anew if it was lost. Whoever comes meanwhile waits for the same attempt.
    pub(crate) async fn get(&self) -> Result<Arc<Link>> {
        let mut current = self.current.lock().await;
        if self.is_closed() {
            return Err(error::closed());
        }
        if let Some(link) = current.as_ref().filter(|link| link.is_live()) {
            return Ok(link.clone());
        }
        // What waits on the old one ends with it.
        *current = None;
        let link = Link::open(&self.config).await?;
        *current = Some(link.clone());
        Ok(link)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// No more connections; the present one stays until [`Links::drop_current`].
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) async fn drop_current(&self) {
        if let Some(link) = self.current.lock().await.take() {
            link.end();
        }
    }
}
