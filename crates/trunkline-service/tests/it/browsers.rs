//! A service that browsers talk to through the platform's gateway, by the official client.

use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trunkline_core::{Env, Error, ErrorKind, Event, Result};
use trunkline_gateway::{Config as Gateway, Route, Service as Led};
use trunkline_realtime::{Handshake, Member, Socket};
use trunkline_security::{Claims, Secret, Signer, Verifier};
use trunkline_service::{Config, Cx, Namespace, Platform, Running, Service};
use trunkline_store::{Migration, sql};
use trunkline_testkit::{eventually, node};

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

#[derive(Debug, Deserialize)]
struct Move {
    game: String,
    text: String,
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
        .on(
            "join-game",
            |_cx, socket: Socket, game: String| async move {
                socket.join(format!("game:{game}"))?;
                socket
                    .to(format!("game:{game}"))
                    .emit("user-joined", &json!({ "user": socket.user()? }))
            },
        )
        .on("game-move", make_move)
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
        .on(|cx: Cx, event: Event<MoveMade>| async move {
            let room = format!("game:{}", event.data.game_id);
            cx.namespace("/games")?
                .to(room)
                .emit("game-updated", &event.data)
        })
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
async fn make_move(cx: Cx, socket: Socket, made: Move) -> Result<Value> {
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
    Ok(json!({ "taken": made.text }))
}

async fn start(folder: &Path) -> Running {
    let mut config = Config::default();
    config.data = folder.to_owned();
    config.gateway.address = ([127, 0, 0, 1], 0).into();
    config.admin.address = ([127, 0, 0, 1], 0).into();
    let led = Led::new("realtime-service").route(Route::new("sockets", "/socket.io").keep_path());
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
