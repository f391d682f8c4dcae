//! A service in two processes whose rooms span both, by a backbone on a real Redis, with the official client. Each process is this very
//! test in another role.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trunkline_core::{Env, Error, Event, Result};
use trunkline_gateway::{Config as Gateway, Route, Service as Led};
use trunkline_realtime::{Handshake, Member, Socket};
use trunkline_service::{Config, Cx, Namespace, Platform, Running, Service};
use trunkline_testkit::redis::Server;
use trunkline_testkit::{Child, eventually, node};

use crate::sample::{Ask, SOON, config};

/// Tells a child where its data is.
const FOLDER: &str = "TRUNKLINE_NODES_FOLDER";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "game.move.made", version = "1.0", topic = "games", key = game_id)]
struct MoveMade {
    game_id: String,
    text: String,
}

#[derive(Debug, Deserialize)]
struct Place {
    game: String,
    last: Option<String>,
}

fn service() -> Service {
    let games = Namespace::at("/games")
        .admits(|_cx: Cx, handshake: Handshake| async move {
            let missing = || Error::invalid("token_missing", "expected a token");
            let user = handshake.token().ok_or_else(missing)?;
            Ok(Member {
                user: Some(user.to_owned().into()),
                ..Member::default()
            })
        })
        .on(
            "join-game",
            |_cx, socket: Socket, place: Place| async move {
                socket.join_since(format!("game:{}", place.game), place.last.as_deref())
            },
        )
        .on("where", |_cx, _, (): ()| async { Ok(std::process::id()) })
        .on("present", |cx: Cx, _, game: String| async move {
            Ok(cx
                .namespace("/games")?
                .presence(format!("game:{game}"))
                .users)
        })
        .on("say", |_cx, socket: Socket, place: Place| async move {
            let room = format!("game:{}", place.game);
            socket
                .to(room)
                .emit("said", &json!({ "by": socket.user()? }))
        })
        .on("game-move", |cx: Cx, _, made: MoveMade| async move {
            cx.publish(made).await
        })
        .tells::<MoveMade>("game-updated", "game:{game_id}")
        .recovers(Duration::from_secs(60), 1_000);
    Service::new("realtime-service")
        .publishes::<MoveMade>()
        .namespace(games)
}

/// A child: runs until it is killed.
async fn be_a_node(folder: &Path) -> Result<()> {
    let mut config = Config::load(Some(&folder.join("trunkline.toml")), [])?;
    config.data = folder.join("data");
    let led = Led::new("realtime-service").route(Route::new("sockets", "/socket.io").keep_path());
    let platform = Platform::new("games")
        .service(service())
        .gateway(Gateway::default().service(led), None);
    let running = platform.env(Env::system()).start(config).await?;
    let new = folder.join("url.new");
    let url = match running.service_address("realtime-service") {
        Some(address) => format!("http://{address}"),
        None => running.gateway_url(),
    };
    std::fs::write(&new, url).unwrap();
    std::fs::rename(new, folder.join("url")).unwrap();
    std::future::pending().await
}

struct Node {
    child: Child,
    folder: PathBuf,
    url: String,
}

impl Node {
    /// A process with a folder of its own, on this server.
    async fn start(test: &str, folder: PathBuf, server: &Server) -> Self {
        Self::with(test, folder, server, "").await
    }

    /// The same, whose configuration begins and ends with this.
    async fn with(test: &str, folder: PathBuf, server: &Server, part: &str) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        let url = server.url();
        let (run, section) = part.split_once('\n').unwrap_or_default();
        let text = format!(
            "{run}\nbus = \"{url}?takeover_ms=1000\"\n[realtime]\nbackbone = \"{url}\"\n\
             [gateway]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n{section}\n"
        );
        std::fs::write(folder.join("trunkline.toml"), text).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = format!("nodes::{test}");
        command
            .args([&*name, "--exact", "--nocapture"])
            .env(FOLDER, &folder)
            .stdout(Stdio::null());
        let child = Child::spawn(&mut command).unwrap();
        let told = folder.join("url");
        eventually(SOON, async || told.exists()).await;
        let url = std::fs::read_to_string(told).unwrap();
        Self { child, folder, url }
    }
}

/// Whether this is a child, and then it never ends.
async fn is_child() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        be_a_node(Path::new(&folder)).await.unwrap();
    }
}

fn script(args: &[&str]) -> Command {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/nodes.cjs"));
    let mut node = node::script(file);
    node.args(args);
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_span_two_processes_and_who_is_cut_off_by_a_kill_goes_on_at_the_other() {
    is_child().await;
    let test = "rooms_span_two_processes_and_who_is_cut_off_by_a_kill_goes_on_at_the_other";
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let mut one = Node::start(test, folder.path().join("one"), &server).await;
    let other = Node::start(test, folder.path().join("other"), &server).await;
    let ready = one.folder.join("ready");
    let mut players = script(&[&one.url, &other.url, ready.to_str().unwrap()]);
    let plays = tokio::task::spawn_blocking(move || players.output().unwrap());
    eventually(SOON, async || ready.exists() || plays.is_finished()).await;
    let status = one.child.kill().unwrap();
    assert!(Child::was_killed(status), "{status}");
    let output = plays.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
}

/// A gateway before a service in two other processes, one of which is killed.
async fn leads_to_the_other(test: &str, secured: bool) {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (mut run, mut tls) = (["realtime-service", "gateway"], String::new());
    if secured {
        // Each has a gateway, with the same keys.
        run = [""; 2];
        let shared = folder.path().display();
        tls = format!(
            "[service.gateway]\nlisten = \"127.0.0.1:0\"\n[tls]\ndevelopment = true\n\
             folder = \"{shared}/certs/{{service}}\"\n[identity]\nkeys = \"{shared}/keys/{{service}}\"\n"
        );
    }
    let part = |run: &str, place: &str| {
        format!("run = \"{run}\"\n{tls}[service.realtime-service]\n{place}")
    };
    let service = part(run[0], "listen = \"127.0.0.1:0\"");
    let mut one = Node::with(test, at("one"), &server, &service).await;
    let other = Node::with(test, at("other"), &server, &service).await;
    let urls = format!("urls = [\"{}\", \"{}\"]", one.url, other.url);
    let gateway = Node::with(test, at("gateway"), &server, &part(run[1], &urls)).await;
    let ready = gateway.folder.join("ready");
    let mut players = script(&[&gateway.url, "through", ready.to_str().unwrap()]);
    let plays = tokio::task::spawn_blocking(move || players.output().unwrap());
    eventually(SOON, async || ready.exists() || plays.is_finished()).await;
    one.child.kill().unwrap();
    let output = plays.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_leads_to_other_processes_and_on_when_one_dies() {
    is_child().await;
    let test = "a_gateway_leads_to_other_processes_and_on_when_one_dies";
    leads_to_the_other(test, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_leads_there_with_certificates_too() {
    is_child().await;
    leads_to_the_other("a_gateway_leads_there_with_certificates_too", true).await;
}

/// The check of the backbone in the service's own report, and its latency.
async fn backbone(running: &Running) -> (Value, Value) {
    let ask = Ask::new(running.network().clone(), "realtime-service");
    let mut report = ask.get("/health").await.body;
    assert_eq!(report["checks"]["database"], "ok", "{report}");
    let latency = report["details"]["backbone"]["latency_us"].take();
    (report["checks"]["backbone"].take(), latency)
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_how_the_backbone_is() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
    let mut config = config(folder.path());
    config.realtime.backbone = Some(server.url());
    let platform = Platform::new("games").service(service());
    let running = platform.start(config).await.unwrap();
    let (said, latency) = backbone(&running).await;
    assert_eq!(said, "ok");
    assert!(latency.is_u64(), "{latency}");

    server.kill();
    eventually(SOON, async || backbone(&running).await.0 != "ok").await;
    assert_eq!(backbone(&running).await.1, Value::Null);
    // What needs no other node is answered.
    let ask = Ask::new(running.network().clone(), "realtime-service");
    assert_eq!(ask.get("/health/live").await.status, 200);

    server.restart();
    eventually(SOON, async || backbone(&running).await.0 == "ok").await;
    running.shutdown().await;
}
