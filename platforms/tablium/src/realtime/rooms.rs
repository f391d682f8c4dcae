//! Who is at which table.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use trunkline::realtime::Socket;
use trunkline::{ByteString, Cx, Result, sql};

use super::GAMES;
use super::chat::{self, Said};
use super::sync::{UPDATED, Updated};
use crate::limits;
use crate::state::{self, Attended, Role};
use crate::view::GameView;

/// What somebody is told who comes to a table.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// What they are there.
    pub role: Role,
    /// The game.
    pub state: GameView,
    /// What was said lately, the first first.
    pub chat: Vec<Said>,
}

/// Who is at a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// The game.
    pub game_id: String,
    /// Players who are there.
    pub players: Vec<String>,
    /// How many others are.
    pub spectators: usize,
}

/// The room of all at a table.
pub(super) fn table(game_id: &str) -> String {
    format!("game:{game_id}")
}

/// The room of its players who are there.
fn players(game_id: &str) -> String {
    format!("players:{game_id}")
}

/// The room of everything that a user has open.
pub(super) fn own(user_id: &str) -> String {
    format!("user:{user_id}")
}

pub(super) async fn connected(_cx: Cx, socket: Socket) -> Result<()> {
    socket.join(own(socket.user()?))
}

/// Comes to a table. A private one is for its players.
pub(super) async fn join(cx: Cx, socket: Socket, game_id: String) -> Result<Table> {
    let came = attend(&cx, &game_id).await?;
    let is_new = !socket.rooms().contains(&*table(&game_id));
    socket.join(table(&game_id))?;
    if came.role == Role::Player {
        socket.join(players(&game_id))?;
    }
    // Whatever happened before the room was joined is in the state that is asked for after it.
    let came = attend(&cx, &game_id).await?;
    remember(&cx, &came).await?;
    let now = cx.now();
    if is_new {
        let joined = json!({
            "userId": came.user_id, "username": came.username, "role": came.role, "gameId": game_id,
            "timestamp": now,
        });
        socket.to(table(&game_id)).emit("user-joined", &joined)?;
    }
    // Also of who was cut off and has come back: they are in the room still, and were told to be gone.
    tell_presence(&cx, &game_id)?;
    socket.emit(UPDATED, &Updated::of(came.state.clone(), None, now))?;
    let chat = chat::lately(&cx, &game_id).await?;
    for said in &chat {
        socket.emit("chat-message", said)?;
    }
    Ok(Table {
        role: came.role,
        state: came.state,
        chat,
    })
}

async fn attend(cx: &Cx, game_id: &str) -> Result<Attended> {
    limits::id("gameId", game_id)?;
    let games = cx.service(state::NAME)?;
    let seat = games.get(format!("/internal/games/{game_id}/seat"));
    seat.send().await
}

pub(super) async fn leave(cx: Cx, socket: Socket, game_id: String) -> Result<()> {
    limits::id("gameId", &game_id)?;
    if !socket.rooms().contains(&*table(&game_id)) {
        return Ok(());
    }
    socket.leave(&table(&game_id));
    socket.leave(&players(&game_id));
    tell_left(&cx, socket.user()?, &game_id).await
}

/// Somebody has gone, with all tables at which they were.
pub(super) async fn gone(cx: Cx, socket: Socket, rooms: BTreeSet<ByteString>) -> Result<()> {
    let tables = rooms.iter().filter_map(|room| room.strip_prefix("game:"));
    for game_id in tables {
        tell_left(&cx, socket.user()?, game_id).await?;
    }
    Ok(())
}

async fn tell_left(cx: &Cx, user_id: &str, game_id: &str) -> Result<()> {
    let games = cx.namespace(GAMES)?;
    // Another window of theirs may still be there.
    if !games.presence(table(game_id)).users.contains_key(user_id) {
        let username = name_of(cx, user_id).await?;
        let left = json!({
            "userId": user_id, "username": username, "gameId": game_id, "timestamp": cx.now(),
        });
        games.to(table(game_id)).emit("user-left", &left)?;
    }
    tell_presence(cx, game_id)
}

/// Tells a table who is there.
fn tell_presence(cx: &Cx, game_id: &str) -> Result<()> {
    let games = cx.namespace(GAMES)?;
    let all = games.presence(table(game_id)).users;
    let playing = games.presence(players(game_id)).users;
    let presence = Presence {
        game_id: game_id.to_owned(),
        spectators: all
            .keys()
            .filter(|user| !playing.contains_key(*user))
            .count(),
        players: playing.into_keys().map(|user| user.to_string()).collect(),
    };
    games.to(table(game_id)).emit("presence", &presence)
}

/// Notes how somebody is called, for what they say.
async fn remember(cx: &Cx, came: &Attended) -> Result<()> {
    if name_of(cx, &came.user_id).await?.as_ref() == Some(&came.username) {
        return Ok(());
    }
    let mut tx = cx.tx().await?;
    let text = "INSERT INTO visitors (user_id, username) VALUES ($1, $2) \
                ON CONFLICT (user_id) DO UPDATE SET username = $2";
    let upsert = sql(text).bind(&came.user_id).bind(&came.username);
    upsert.run(tx.conn()).await?;
    Ok(())
}

pub(super) async fn name_of(cx: &Cx, user_id: &str) -> Result<Option<String>> {
    let mut reader = cx.read().await?;
    let text = "SELECT username FROM visitors WHERE user_id = $1";
    let found = sql(text).bind(user_id);
    let found = found.first::<(String,)>(reader.conn()).await?;
    Ok(found.map(|(username,)| username))
}
