//! A gateway in front of a service that tells what it got.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::{Arc, Once};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trunkline_call::{Network, Responses};
use trunkline_core::{Clock, Env};
use trunkline_gateway::{Config, Gateway, Limits, Means, Route, Service};
use trunkline_security::{Claims, Secret, Signer, Verifier};
use trunkline_telemetry::{Ring, Telemetry};

/// Longer than anything here takes, on whatever machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Kit {
    pub(crate) address: SocketAddr,
    pub(crate) signer: Signer,
    pub(crate) env: Env,
    pub(crate) clock: Clock,
    pub(crate) ring: Arc<Ring>,
    pub(crate) gateway: Gateway,
    /// With TLS, where the configuration has certificates.
    pub(crate) tls_address: SocketAddr,
    stop: CancellationToken,
    server: JoinSet<()>,
}

/// Answers with the line and headers of the request and the length of its body.
pub(crate) fn echo() -> Router {
    async fn tell(request: Request) -> impl IntoResponse {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await;
        let headers: Vec<(String, String)> = parts
            .headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.to_string(), value)
            })
            .collect();
        let told = json!({
            "method": parts.method.as_str(),
            "uri": parts.uri.to_string(),
            "headers": headers,
            "body_bytes": body.map(|body| body.len()).ok(),
        });
        (
            [
                ("x-trunkline-inner", "1"),
                ("connection", "x-gone"),
                ("x-gone", "1"),
            ],
            told.to_string(),
        )
    }
    Router::new().fallback(tell)
}

/// A service that says of each request that it has begun, and ends it with `done` when it is let go on.
pub(crate) fn gated() -> (Router, Arc<Semaphore>, Arc<Semaphore>) {
    let (began, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (tells, gate) = (began.clone(), go_on.clone());
    let slow = move || {
        let (tells, gate) = (tells.clone(), gate.clone());
        async move {
            tells.add_permits(1);
            gate.acquire().await.unwrap().forget();
            "done"
        }
    };
    (Router::new().fallback(slow), began, go_on)
}

fn secret() -> Secret {
    Secret::new(*b"0123456789abcdef0123456789abcdef").unwrap()
}

/// One service named `echo`, behind these routes.
pub(crate) fn config(routes: impl IntoIterator<Item = Route>) -> Config {
    let service = routes
        .into_iter()
        .fold(Service::new("echo"), Service::route);
    Config::default().service(service)
}

/// The same routes to a service whose `url` the file has.
pub(crate) fn with_url(mut config: Config, url: &str) -> Config {
    let text = format!("services: [{{name: echo, url: '{url}', routes: [{{paths: [/]}}]}}]");
    let named = Config::parse("kong.yml", &text).unwrap();
    config.services[0].url = named.services[0].url.clone();
    config
}

pub(crate) async fn start(config: Config) -> Kit {
    start_with(config, echo(), Limits::default()).await
}

pub(crate) async fn start_with(config: Config, router: Router, limits: Limits) -> Kit {
    start_of(config, router, limits, Means::from).await
}

/// The same, with means of what verifies the users' tokens.
pub(crate) async fn start_of(
    config: Config,
    router: Router,
    limits: Limits,
    means: impl FnOnce(Verifier) -> Means,
) -> Kit {
    let mount = |network: &Network| network.mount("echo", router, Responses::Plain);
    start_before(config, mount, limits, means).await
}

/// In front of a service at this address.
pub(crate) async fn start_at(config: Config, service: SocketAddr, limits: Limits) -> Kit {
    let url = format!("http://{service}");
    let place = |network: &Network| network.remote("echo", &url, Responses::Plain).unwrap();
    start_before(config, place, limits, Means::from).await
}

/// A gateway in whose process no service runs.
pub(crate) async fn alone(config: &Config) -> Kit {
    let (env, clock) = Env::manual(7);
    let ring = Arc::new(Ring::new(1024));
    let telemetry = Telemetry::new(env.clone()).with_sink(ring.clone());
    let gateway = Gateway::alone(config, telemetry, env.clone());
    let gateway = gateway.unwrap_or_else(|error| panic!("{error}"));
    serving(gateway, !config.certificates.is_empty(), (env, clock, ring)).await
}

async fn start_before(
    config: Config,
    place: impl FnOnce(&Network),
    limits: Limits,
    means: impl FnOnce(Verifier) -> Means,
) -> Kit {
    let (env, clock) = Env::manual(7);
    let ring = Arc::new(Ring::new(1024));
    let telemetry = Telemetry::new(env.clone()).with_sink(ring.clone());
    let network = Network::new(telemetry.clone(), env.clone());
    place(&network);
    let channel_of = move |name: &str| network.channel("gateway", name);
    let is_secured = !config.certificates.is_empty();
    let verifier = Verifier::hs256(&secret(), env.clone());
    let gateway = Gateway::new(config, channel_of, means(verifier), telemetry, env.clone())
        .unwrap()
        .with_limits(limits);
    serving(gateway, is_secured, (env, clock, ring)).await
}

async fn serving(
    gateway: Gateway,
    is_secured: bool,
    (env, clock, ring): (Env, Clock, Arc<Ring>),
) -> Kit {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let mut server = JoinSet::new();
    let (serving, stopped) = (gateway.clone(), stop.clone().cancelled_owned());
    server.spawn(async move { serving.serve(listener, stopped).await });
    let mut tls_address = address;
    if is_secured {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        tls_address = listener.local_addr().unwrap();
        let (serving, stopped) = (gateway.clone(), stop.clone().cancelled_owned());
        server.spawn(async move { serving.serve_tls(listener, stopped).await.unwrap() });
    }
    Kit {
        address,
        tls_address,
        signer: Signer::hs256(&secret()),
        env,
        clock,
        ring,
        gateway,
        stop,
        server,
    }
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("no answer: {text:?}")),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (given, value) = line.split_once(": ")?;
            given.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// What the service got under this header.
    pub(crate) fn got(&self, name: &str) -> Vec<String> {
        let told = self.json();
        let headers = told["headers"].as_array().unwrap();
        let values = headers.iter().filter(|pair| pair[0] == name);
        values
            .map(|pair| pair[1].as_str().unwrap().to_owned())
            .collect()
    }

    /// Checks that it is the gateway's problem of this status and code.
    pub(crate) fn is_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let told = self.json();
        assert_eq!(told["code"], code, "{told}");
        assert_eq!(told["status"], status, "{told}");
        assert_eq!(
            told["request_id"].as_str(),
            self.header("x-request-id"),
            "{told}"
        );
        assert!(told["request_id"].as_str().unwrap().len() > 10, "{told}");
    }
}

impl Kit {
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes as they are and takes all that comes until the gateway closes.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    }

    /// One request on a connection of its own. Lines of `headers` end in CRLF.
    pub(crate) async fn send(&self, line: &str, headers: &str, body: &str) -> Answer {
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("content-length: {}\r\n", body.len())
        };
        let head =
            format!("{line} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n{length}{headers}\r\n");
        Answer::parse(&self.raw(&format!("{head}{body}")).await)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), "", "").await
    }

    /// An `authorization` line for this user.
    pub(crate) fn bearer(&self, user: &str) -> String {
        self.bearer_of(user, &[])
    }

    pub(crate) fn bearer_of(&self, user: &str, roles: &[&str]) -> String {
        let mut claims = Claims::new(user, Duration::from_secs(60), &self.env);
        claims.roles = roles.iter().map(|role| (*role).into()).collect();
        format!(
            "authorization: Bearer {}\r\n",
            self.signer.sign(&claims).unwrap()
        )
    }

    pub(crate) fn begin_stop(&mut self) {
        self.stop.cancel();
    }

    pub(crate) async fn stopped(&mut self) {
        let ended = async {
            while let Some(ended) = self.server.join_next().await {
                ended.unwrap();
            }
        };
        let ended = tokio::time::timeout(SOON, ended).await;
        ended.expect("the gateway stops in time");
    }
}

pub(crate) async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await;
    // A reset after the answer is an end too.
    drop(read.expect("the gateway closes the connection"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until the text is there.
pub(crate) async fn read_until(stream: &mut (impl AsyncRead + Unpin), wanted: &str) -> String {
    let mut text = String::new();
    let reading = async {
        let mut piece = [0; 4096];
        while !text.contains(wanted) {
            let read = stream.read(&mut piece).await.unwrap();
            assert!(read > 0, "closed before {wanted:?}: {text:?}");
            text.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    };
    tokio::time::timeout(SOON, reading)
        .await
        .expect("it comes in time");
    text
}

type Kept = Arc<parking_lot::Mutex<Vec<String>>>;

thread_local! {
    static KEPT: RefCell<Option<Kept>> = const { RefCell::new(None) };
}

/// The lines of the log, for as long as it lives: those of the thread that made it.
pub(crate) struct Lines {
    lines: Kept,
}

impl Lines {
    pub(crate) fn new() -> Self {
        // One for all threads, which wants every line: `tracing` asks whether anybody wants a line when it is first said,
        // and remembers the answer. A thread without a subscriber would say no for all others.
        static INIT: Once = Once::new();
        INIT.call_once(|| {
            tracing::subscriber::set_global_default(Writer).unwrap();
            tracing::callsite::rebuild_interest_cache();
        });
        let lines = Kept::default();
        KEPT.set(Some(lines.clone()));
        Self { lines }
    }

    /// How many lines have this text in them.
    pub(crate) fn with(&self, text: &str) -> usize {
        let lines = self.lines.lock();
        lines.iter().filter(|line| line.contains(text)).count()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        KEPT.set(None);
    }
}

/// Keeps lines where the thread keeps any.
struct Writer;

impl tracing::Subscriber for Writer {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("trunkline")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{}={value:?} ", field.name()));
            }
        }
        KEPT.with_borrow(|kept| {
            if let Some(kept) = kept {
                let mut text = Text(String::new());
                event.record(&mut text);
                kept.lock().push(text.0);
            }
        });
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
