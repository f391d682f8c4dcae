//! A game of noughts and crosses, as an aggregate and as projections.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trunkline_core::Result;
use trunkline_store::{Aggregate, EventType, Loaded, Projection, Recorded, Store, Target};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    Created { by: String },
    Joined { by: String },
    Moved { by: String, field: u8 },
    Resigned(String),
    Ended,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Game {
    pub(super) players: Vec<String>,
    pub(super) fields: Vec<(String, u8)>,
    pub(super) over: bool,
}

/// Moves once had the field as `row` and `column`, and before that no player.
const MOVES: &[fn(Value) -> Result<Value>] = &[
    |mut value| {
        value["by"] = json!("nobody");
        Ok(value)
    },
    |value| {
        let at = |name: &str| value[name].as_u64().unwrap_or(0);
        Ok(json!({ "by": value["by"], "field": at("row") * 3 + at("column") }))
    },
];

impl Aggregate for Game {
    type Event = Event;
    const KIND: &'static str = "game";
    const EVENTS: &'static [EventType] = &[
        EventType::new("created"),
        EventType::new("joined"),
        EventType::upcast("moved", MOVES),
        EventType::new("resigned"),
        EventType::new("ended"),
    ];
    const SNAPSHOT_EVERY: u32 = 7;

    fn apply(&mut self, event: &Event) {
        match event {
            Event::Created { by } | Event::Joined { by } => self.players.push(by.clone()),
            Event::Moved { by, field } => self.fields.push((by.clone(), *field)),
            Event::Resigned(_) | Event::Ended => self.over = true,
        }
    }
}

/// What the events make without any store.
pub(super) fn replayed(events: &[Event]) -> Game {
    let mut game = Game::default();
    events.iter().for_each(|event| game.apply(event));
    game
}

pub(super) fn moved(n: usize) -> Event {
    let by = ["ada", "bob"][n % 2].to_owned();
    let field = u8::try_from(n % 250).unwrap();
    Event::Moved { by, field }
}

/// Loads, appends and commits.
pub(super) async fn play(store: &Store, id: &str, events: &[Event]) -> Loaded<Game> {
    let mut tx = store.begin().await.unwrap();
    let mut game = tx.load::<Game>(id).await.unwrap();
    tx.append(&mut game, events).await.unwrap();
    tx.commit().await.unwrap();
    game
}

/// How many moves each player has made, and the moves in the order in which they were seen.
pub(super) struct Moves;

impl Projection for Moves {
    type Aggregate = Game;
    const NAME: &'static str = "moves";
    const TABLES: &'static [&'static str] = &["tally", "seen"];
    const CREATE: &'static str =
        "CREATE TABLE {tally} (player TEXT PRIMARY KEY, moves BIGINT NOT NULL);
         CREATE TABLE {seen} (game TEXT NOT NULL, version BIGINT NOT NULL, nth BIGINT NOT NULL);
         CREATE INDEX {seen}_by_game ON {seen} (game, version)";

    async fn apply(&self, event: &Recorded<Event>, target: &mut Target<'_>) -> Result<()> {
        let seen = target
            .sql("INSERT INTO {seen} (game, version, nth) SELECT $1, $2, COUNT(*) + 1 FROM {seen}");
        seen.bind(&event.id)
            .bind(event.version)
            .run(target.conn())
            .await?;
        let Event::Moved { by, .. } = &event.event else {
            return Ok(());
        };
        let tally = target.sql(
            "INSERT INTO {tally} (player, moves) VALUES ($1, 1) \
             ON CONFLICT (player) DO UPDATE SET moves = {tally}.moves + 1",
        );
        tally.bind(by).run(target.conn()).await?;
        Ok(())
    }
}
