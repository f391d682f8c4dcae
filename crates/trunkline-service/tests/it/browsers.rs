//! A service that browsers talk to through the platform's gateway, by the official client.

use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trunkline_core::{Env, Error, ErrorKind, Event, Result};
use trunkline_gateway::{Config as Gateway, Route, Service as Led};
use trunkline_realtime::{Handshake, Member, Socket};
use trunkline_security::{Claims, Secret, Signer, Verifier};
use trunkline_service::{Config, Cx, Namespace, Platform, Running, Service, Tell};
use trunkline_store::{Migration, sql};
use trunkline_testkit::{eventually, node};

use crate::ask::Ask;
use crate::sample::SOON;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "game.move.made", version = "1.0", topic = "games", key = game_id)]
struct MoveMade {
    game_id: String,
    by: String,
    text: String,
}

const MOVES: &[Migration] = &[Migration {
    name: "0001_moves",
    sql: "CREATE TABLE moves (game_id TEXT NOT NULL, text TEXT NOT NULL)",
}];

#[derive(Debug, Deserialize, JsonSchema)]
struct Move {
    game: String,
    text: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Taken {
    taken: String,
}

#[derive(Debug, Deserialize)]
struct Resume {
    game: String,
    last: Option<String>,
}

fn service() -> Service {
    let games = Namespace::at("/games")
        .admits(|_cx: Cx, handshake: Handshake| async move {
            let user = handshake.token().ok_or_else(|| {
                Error::new(
                    ErrorKind::Unauthenticated,
                    "token_missing",
                    "expected a token",
                )
            })?;
            Ok(Member {
                user: Some(user.to_owned().into()),
                ..Member::default()
            })
        })
        .plain_at("/ws/games")
        .on_connect(
            |_cx, socket: Socket| async move { socket.join(format!("of:{}", socket.user()?)) },
        )
        .on(
            "join-game",
            |_cx, socket: Socket, game: String| async move {
                socket.join(format!("game:{game}"))?;
                socket
                    .to(format!("game:{game}"))
                    .emit("user-joined", &json!({ "user": socket.user()? }))
            },
        )
        .on(
            "resume-game",
            |_cx, socket: Socket, back: Resume| async move {
                socket.join_since(format!("game:{}", back.game), back.last.as_deref())
            },
        )
        .on(
            "leave-game",
            |_cx, socket: Socket, game: String| async move {
                socket.leave(&format!("game:{game}"));
                Ok(())
            },
        )
        .handles("game-move", make_move)
        .tells::<MoveMade>("game-updated", "game:{game_id}")
        .tells_by("moves", |event: &Event<MoveMade>| match &*event.data.by {
            "nobody" => Ok(Tell::nobody()),
            by => Tell::to("moves")
                .and(format!("of:{by}"))
                .with(&event.data.text),
        })
        .recovers(Duration::from_secs(60), 1_000)
        .on("moves", |cx: Cx, _, game: String| async move {
            let mut reader = cx.read().await?;
            let text = "SELECT text FROM moves WHERE game_id = $1";
            let rows = sql(text)
                .bind(&game)
                .all::<(String,)>(reader.conn())
                .await?;
            Ok(rows.into_iter().map(|(text,)| text).collect::<Vec<_>>())
        });
    let signed = Namespace::at("/signed")
        .signed_in()
        .on("who", |cx: Cx, _, (): ()| async move {
            cx.require_role("player")?;
            Ok(cx.user()?.to_string())
        });
    Service::new("realtime-service")
        .version("1.0.0")
        .state(Verifier::hs256(&secret(), Env::system()))
        .namespace(signed)
        .migrations(MOVES)
        .publishes::<MoveMade>()
        .namespace(games)
        .on_batch(8, |cx: Cx, event: Event<MoveMade>| async move {
            let room = format!("game:{}", event.data.game_id);
            let games = cx.namespace("/games")?;
            games.to(room).emit("counted", &event.data.text)
        })
}

fn secret() -> Secret {
    Secret::new(b"a secret of the test, long enough for HS256").unwrap()
}

fn token(lifetime: Duration) -> String {
    let claims = Claims::new("ada", lifetime, &Env::system()).with_role("player");
    Signer::hs256(&secret()).sign(&claims).unwrap()
}

/// The row and the event commit together, or not at all.
async fn make_move(cx: Cx, socket: Socket, made: Move) -> Result<Taken> {
    let room = format!("game:{}", made.game);
    let games = cx.namespace("/games")?;
    socket.to(&*room).emit("said", &made.text)?;
    games.to(&*room).volatile().emit("glimpsed", &made.text)?;
    socket.emit("said", &made.text)?;
    games.to(&*room).at_once().emit("considered", &made.text)?;
    let mut tx = cx.tx().await?;
    sql("INSERT INTO moves (game_id, text) VALUES ($1, $2)")
        .bind(&made.game)
        .bind(&made.text)
        .run(tx.conn())
        .await?;
    drop(tx);
    let by = cx.user()?.to_string();
    cx.publish(MoveMade {
        game_id: made.game,
        by,
        text: made.text.clone(),
    })
    .await?;
    if made.text == "illegal" {
        return Err(Error::conflict("move_illegal", "that is no move"));
    }
    Ok(Taken { taken: made.text })
}

async fn start(folder: &Path) -> Running {
    let mut config = Config::default();
    config.data = folder.to_owned();
    config.gateway.address = ([127, 0, 0, 1], 0).into();
    config.admin.address = ([127, 0, 0, 1], 0).into();
    let led = Led::new("realtime-service")
        .route(Route::new("sockets", "/socket.io").keep_path())
        .route(Route::new("plain", "/ws").keep_path());
    let gateway = Gateway::default().service(led);
    let platform = Platform::new("games")
        .service(service())
        .gateway(gateway, None);
    platform.env(Env::system()).start(config).await.unwrap()
}

async fn plays(running: &Running, transports: &str) {
    let file = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/browsers.cjs"
    ));
    let mut node = node::script(file);
    node.args([&running.gateway_url(), transports, "plays"]);
    node.args([
        token(Duration::from_secs(60)),
        token(Duration::from_secs(2)),
    ]);
    let output = tokio::task::spawn_blocking(move || node.output().unwrap());
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "over {transports}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn players_see_what_is_committed_over_every_means() {
    for transports in ["websocket", "polling", "polling,websocket"] {
        let folder = tempfile::tempdir().unwrap();
        let running = start(folder.path()).await;
        plays(&running, transports).await;
        running.shutdown().await;
    }
}

async fn play(running: &Running, args: &[&str]) -> String {
    let file = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/browsers.cjs"
    ));
    let mut node = node::script(file);
    node.args([&*running.gateway_url(), "websocket"]).args(args);
    let output = tokio::task::spawn_blocking(move || node.output().unwrap());
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_after_a_restart_gets_what_was_told_since() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path()).await;
    let last = play(&running, &["leaves"]).await;
    running.shutdown().await;
    let running = start(folder.path()).await;
    play(&running, &["resumes", &last]).await;
    running.shutdown().await;
}

#[tokio::test]
async fn what_a_namespace_takes_and_tells_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path()).await;
    let ask = Ask::new(running.network().clone(), "realtime-service");
    let told = ask.get("/asyncapi.json").await.body;
    let games = &told["channels"]["games"];
    assert_eq!(
        (&told["asyncapi"], &games["address"]),
        (&json!("3.0.0"), &json!("/games"))
    );
    let message = &games["messages"]["game-move"];
    let reference = json!({ "$ref": "#/components/schemas/Move" });
    assert_eq!(message["payload"], reference);
    let fields = &told["components"]["schemas"]["Move"]["required"];
    assert_eq!(fields, &json!(["game", "text"]));
    let takes = &told["operations"]["games.game-move"];
    assert_eq!(takes["action"], "receive");
    assert_eq!(
        takes["reply"]["messages"][0]["$ref"],
        "#/channels/games/messages/game-move.ack"
    );
    let tells = &told["operations"]["games.game-updated.game.move.made"];
    assert_eq!(tells["action"], "send");
    let told_of = &games["messages"]["game-updated.game.move.made"];
    assert_eq!(
        told_of["payload"]["properties"]["game_id"]["type"],
        "string"
    );
    running.shutdown().await;
}

#[tokio::test]
async fn a_room_of_a_field_that_the_event_has_not_is_refused_at_the_start() {
    let refused = async |namespace: Namespace| {
        let service = Service::new("a")
            .publishes::<MoveMade>()
            .namespace(namespace);
        let mut config = Config::default();
        config.data = tempfile::tempdir().unwrap().path().to_owned();
        let started = Platform::new("p").service(service).start(config).await;
        started.unwrap_err().to_string()
    };
    let games = || Namespace::at("/games");
    let error = refused(games().tells::<MoveMade>("updated", "game:{gameId}")).await;
    assert!(
        error.contains("gameId") && error.contains("game_id"),
        "{error}"
    );
    let error = refused(games().tells::<MoveMade>("updated", "game:{")).await;
    assert!(error.contains("game:{game_id}"), "{error}");
    let twice = |namespace: Namespace| {
        namespace.tells_by("moves", |_: &Event<MoveMade>| Ok(Tell::everybody()))
    };
    let error = refused(games().plain_at("/health")).await;
    assert!(error.contains("something else"), "{error}");
    let error = refused(twice(twice(games()))).await;
    assert!(error.contains("two ways"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_stops_lets_its_players_go() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(folder.path()).await;
    let url = running.gateway_url();
    let file = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/browsers.cjs"
    ));
    let mut node = node::script(file);
    node.args([&url, "websocket", "stays"]);
    let ready = folder.path().join("ready");
    node.arg(&ready);
    let stays = tokio::task::spawn_blocking(move || node.output().unwrap());
    eventually(SOON, async || ready.exists()).await;
    running.shutdown().await;
    let output = stays.await.unwrap();
    assert!(output.status.success(), "{output:?}");
}
