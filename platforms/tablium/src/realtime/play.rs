//! What players do. Whether they may is game-state-service's to say; everybody else hears of it by its events.

use serde::Deserialize;
use serde_json::json;
use trunkline::realtime::Socket;
use trunkline::{Cx, Result};

use crate::games::Move;
use crate::limits;
use crate::state::{self, Answer, MoveRequest};
use crate::view::GameView;

/// A move, as the page sends it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GameMove {
    game_id: String,
    r#move: Move,
    #[serde(default)]
    version: Option<u64>,
}

/// A game, by its id or in an object.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a game's id, or {\"gameId\": \"…\"}")]
pub(super) enum WhichGame {
    Id(String),
    #[serde(rename_all = "camelCase")]
    Object {
        game_id: String,
    },
}

impl WhichGame {
    fn id(self) -> String {
        match self {
            Self::Id(game_id) | Self::Object { game_id } => game_id,
        }
    }
}

/// An answer to an offered draw.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DrawAnswer {
    game_id: String,
    accept: bool,
}

pub(super) async fn make_move(cx: Cx, _socket: Socket, made: GameMove) -> Result<GameView> {
    limits::id("gameId", &made.game_id)?;
    let request = MoveRequest {
        r#move: made.r#move,
        version: made.version,
    };
    let games = cx.service(state::NAME)?;
    let path = format!("/internal/games/{}/moves", made.game_id);
    let play = games.post(path).json(&request);
    // With the version that the player has seen a move is made once, however often it is asked for.
    match request.version {
        Some(_) => play.idempotent().send().await,
        None => play.send().await,
    }
}

pub(super) async fn resign(cx: Cx, _socket: Socket, which: WhichGame) -> Result<GameView> {
    act(&cx, &which.id(), "resign").await
}

pub(super) async fn offer_draw(cx: Cx, _socket: Socket, which: WhichGame) -> Result<GameView> {
    act(&cx, &which.id(), "draw").await
}

async fn act(cx: &Cx, game_id: &str, what: &str) -> Result<GameView> {
    limits::id("gameId", game_id)?;
    let games = cx.service(state::NAME)?;
    let path = format!("/internal/games/{game_id}/{what}");
    games.post(path).json(&json!({})).send().await
}

pub(super) async fn answer_draw(cx: Cx, _socket: Socket, answer: DrawAnswer) -> Result<GameView> {
    limits::id("gameId", &answer.game_id)?;
    let games = cx.service(state::NAME)?;
    let path = format!("/internal/games/{}/draw/answer", answer.game_id);
    let accept = answer.accept;
    games.post(path).json(&Answer { accept }).send().await
}
