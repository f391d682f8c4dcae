//! What happened in a game, as it is told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trunkline::{Cx, Error, Json, Path, Result, Timestamp};

use super::game::Game;
use super::http::visible;

/// More than a game of chess can have.
const EVENTS_MAX: usize = 1_000;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Happened {
    /// The version that it made.
    pub version: u64,
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// What.
    pub r#type: String,
    /// And how.
    pub data: Value,
}

pub(super) async fn list(cx: Cx, Path(game_id): Path<String>) -> Result<Json<Vec<Happened>>> {
    visible(&cx, &game_id, None).await?;
    let events = cx
        .aggregates::<Game>()
        .events(&game_id, 0, EVENTS_MAX)
        .await?;
    let shown = events.into_iter().map(|recorded| {
        let (r#type, data) = named(&recorded.event)?;
        Ok(Happened {
            version: recorded.version,
            at: recorded.at,
            r#type,
            data,
        })
    });
    shown.collect::<Result<_>>().map(Json)
}

/// An event is an object of one field, its name.
fn named(event: &super::GameEvent) -> Result<(String, Value)> {
    let value = serde_json::to_value(event)
        .map_err(|error| Error::internal("an event is JSON").with_source(error))?;
    let named = match value {
        Value::Object(fields) => fields.into_iter().next(),
        _ => None,
    };
    named.ok_or_else(|| Error::internal("an event has a name"))
}
