//! What is said at a table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::realtime::Socket;
use trunkline::{Conn, Cx, Error, ErrorKind, Result, Timestamp, sql};

use super::rooms::{name_of, table};
use crate::events::ChatSaid;
use crate::limits::{self, CHAT_CHARS_MAX, CHAT_KEPT, CHAT_MESSAGES_MAX, CHAT_WITHIN};

/// Something to say.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Say {
    game_id: String,
    text: String,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    /// The message: who comes to a table again may hear one again.
    pub message_id: String,
    /// The game.
    pub game_id: String,
    /// Who said it.
    pub user_id: String,
    /// Their name.
    pub username: String,
    /// What.
    pub text: String,
    /// When.
    #[schemars(with = "String")]
    pub timestamp: Timestamp,
}

/// Says something to the table at which somebody is.
pub(super) async fn say(cx: Cx, socket: Socket, say: Say) -> Result<()> {
    limits::id("gameId", &say.game_id)?;
    let text = limits::text("text", &say.text, CHAT_CHARS_MAX)?;
    if !socket.rooms().contains(&*table(&say.game_id)) {
        let text = "join the game first";
        return Err(Error::new(ErrorKind::PermissionDenied, "not_joined", text));
    }
    let user_id = socket.user()?.to_string();
    let username = name_of(&cx, &user_id).await?;
    let said = ChatSaid {
        message_id: format!("msg_{}", cx.env().id().simple()),
        game_id: say.game_id,
        username: username.unwrap_or_else(|| user_id.clone()),
        user_id,
        text: text.to_owned(),
        timestamp: cx.now(),
    };
    let mut tx = cx.tx().await?;
    check_rate(tx.conn(), &said).await?;
    keep(tx.conn(), &said).await?;
    drop(tx);
    cx.publish(said).await
}

/// # Errors
/// `Overloaded` with code `chat_rate` when somebody has said much lately.
async fn check_rate(conn: &mut Conn, said: &ChatSaid) -> Result<()> {
    let within = i64::try_from(CHAT_WITHIN.as_millis()).unwrap_or(i64::MAX);
    let text = "SELECT COUNT(*) FROM chat WHERE game_id = $1 AND user_id = $2 AND at_ms > $3";
    let (lately,) = sql(text)
        .bind(&said.game_id)
        .bind(&said.user_id)
        .bind(said.timestamp.as_millisecond().saturating_sub(within))
        .one::<(i64,)>(conn)
        .await?;
    if lately < CHAT_MESSAGES_MAX {
        return Ok(());
    }
    let seconds = CHAT_WITHIN.as_secs();
    let text = format!("at most {CHAT_MESSAGES_MAX} messages in {seconds} seconds");
    Err(Error::new(ErrorKind::Overloaded, "chat_rate", text))
}

/// Keeps a message, and no more than the last of its table.
async fn keep(conn: &mut Conn, said: &ChatSaid) -> Result<()> {
    let text = "INSERT INTO chat (message_id, game_id, user_id, username, body, at, at_ms) \
                VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sql(text)
        .bind(&said.message_id)
        .bind(&said.game_id)
        .bind(&said.user_id)
        .bind(&said.username)
        .bind(&said.text)
        .bind(said.timestamp)
        .bind(said.timestamp.as_millisecond())
        .run(conn)
        .await?;
    let text = "DELETE FROM chat WHERE game_id = $1 AND message_id NOT IN (SELECT message_id FROM chat \
                WHERE game_id = $1 ORDER BY at_ms DESC, message_id DESC LIMIT $2)";
    let prune = sql(text).bind(&said.game_id).bind(CHAT_KEPT);
    prune.run(conn).await?;
    Ok(())
}

/// What was said at a table lately, the first first.
pub(super) async fn lately(cx: &Cx, game_id: &str) -> Result<Vec<Said>> {
    let text = "SELECT message_id, user_id, username, body, at FROM chat WHERE game_id = $1 \
                ORDER BY at_ms, message_id";
    let mut reader = cx.read().await?;
    let rows = sql(text)
        .bind(game_id)
        .all::<(String, String, String, String, String)>(reader.conn())
        .await?;
    let said = rows
        .into_iter()
        .map(|(message_id, user_id, username, text, at)| {
            let timestamp = at.parse::<Timestamp>();
            let game_id = game_id.to_owned();
            Ok(Said {
                message_id,
                game_id,
                user_id,
                username,
                text,
                timestamp: timestamp
                    .map_err(|error| Error::internal("a time is readable").with_source(error))?,
            })
        });
    said.collect()
}

impl Said {
    pub(super) fn of(said: ChatSaid) -> Self {
        Self {
            message_id: said.message_id,
            game_id: said.game_id,
            user_id: said.user_id,
            username: said.username,
            text: said.text,
            timestamp: said.timestamp,
        }
    }
}
