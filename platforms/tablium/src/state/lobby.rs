//! All games in a table, for lists.

use trunkline::{Conn, Error, Projection, Recorded, Result, Target, Timestamp, sql};

use super::Clock;
use super::game::{Game, GameEvent, Player};
use super::http::Listed;
use crate::Points;
use crate::games::{Reason, Seat};
use crate::limits::PAGE_MAX;
use crate::view::{PlayerView, Status};

/// The table `lobby`: a game a row.
#[derive(Debug, Clone, Copy)]
pub struct Lobby;

impl Projection for Lobby {
    type Aggregate = Game;
    const NAME: &'static str = "lobby";
    const TABLES: &'static [&'static str] = &["lobby"];
    const CREATE: &'static str = "\
        CREATE TABLE {lobby} (game_id TEXT PRIMARY KEY, kind TEXT NOT NULL, status TEXT NOT NULL, \
        is_private BIGINT NOT NULL, opponent_id TEXT, first_id TEXT, first_name TEXT, second_id TEXT, \
        second_name TEXT, stake_minor BIGINT NOT NULL, initial_ms BIGINT NOT NULL, increment_ms BIGINT NOT NULL, \
        created_at TEXT NOT NULL); \
        CREATE INDEX {lobby}_by_status ON {lobby} (status, created_at)";

    async fn apply(&self, event: &Recorded<GameEvent>, target: &mut Target<'_>) -> Result<()> {
        match &event.event {
            GameEvent::Created { .. } => open(event, target).await,
            GameEvent::Joined { player, .. } => sit(&event.id, player, target).await,
            GameEvent::TurnedAway { user_id } => stand_up(&event.id, user_id, target).await,
            GameEvent::Started { .. } => stands(&event.id, Status::Active, target).await,
            GameEvent::Completed { outcome, .. } => {
                let status = match outcome.reason {
                    Reason::Cancelled => Status::Cancelled,
                    _ => Status::Completed,
                };
                stands(&event.id, status, target).await
            }
            _ => Ok(()),
        }
    }
}

async fn open(event: &Recorded<GameEvent>, target: &mut Target<'_>) -> Result<()> {
    let GameEvent::Created {
        kind,
        host,
        host_seat,
        opponent,
        stake,
        initial_ms,
        increment_ms,
        private,
    } = &event.event
    else {
        return Ok(());
    };
    let sits = |seat: Seat| (*host_seat == seat).then_some(host);
    let (first, second) = (sits(Seat::First), sits(Seat::Second));
    let id = |player: Option<&Player>| player.map(|player| player.user_id.clone());
    let name = |player: Option<&Player>| player.map(|player| player.username.clone());
    let insert = target.sql(
        "INSERT INTO {lobby} (game_id, kind, status, is_private, opponent_id, first_id, first_name, \
         second_id, second_name, stake_minor, initial_ms, increment_ms, created_at) \
         VALUES ($1, $2, 'waiting', $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    );
    insert
        .bind(&event.id)
        .bind(kind.name())
        .bind(i64::from(*private))
        .bind(opponent)
        .bind(&id(first))
        .bind(&name(first))
        .bind(&id(second))
        .bind(&name(second))
        .bind(stake.map_or(0, Points::minor))
        .bind(i64::try_from(*initial_ms).unwrap_or(i64::MAX))
        .bind(i64::try_from(*increment_ms).unwrap_or(i64::MAX))
        .bind(event.at)
        .run(target.conn())
        .await?;
    Ok(())
}

/// Takes the place that is free.
async fn sit(game_id: &str, player: &Player, target: &mut Target<'_>) -> Result<()> {
    let update = target.sql(
        "UPDATE {lobby} SET first_id = COALESCE(first_id, $2), first_name = COALESCE(first_name, $3), \
         second_id = CASE WHEN first_id IS NULL THEN second_id ELSE $2 END, \
         second_name = CASE WHEN first_id IS NULL THEN second_name ELSE $3 END WHERE game_id = $1",
    );
    let update = update.bind(game_id).bind(&player.user_id);
    update.bind(&player.username).run(target.conn()).await?;
    Ok(())
}

async fn stand_up(game_id: &str, user_id: &str, target: &mut Target<'_>) -> Result<()> {
    let update = target.sql(
        "UPDATE {lobby} SET first_name = CASE WHEN first_id = $2 THEN NULL ELSE first_name END, \
         second_name = CASE WHEN second_id = $2 THEN NULL ELSE second_name END, \
         first_id = NULLIF(first_id, $2), second_id = NULLIF(second_id, $2) WHERE game_id = $1",
    );
    let update = update.bind(game_id).bind(user_id);
    update.run(target.conn()).await?;
    Ok(())
}

async fn stands(game_id: &str, status: Status, target: &mut Target<'_>) -> Result<()> {
    let update = target.sql("UPDATE {lobby} SET status = $2 WHERE game_id = $1");
    let update = update.bind(game_id).bind(status.name());
    update.run(target.conn()).await?;
    Ok(())
}

/// The columns of [`list`], in their order.
type Row = (
    String,
    String,
    String,
    i64,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    i64,
    i64,
    i64,
    String,
);

/// The newest games that everybody may see, and the user's own.
pub(super) async fn list(
    conn: &mut Conn,
    user_id: &str,
    status: Option<Status>,
) -> Result<Vec<Listed>> {
    let text = "SELECT game_id, kind, status, is_private, first_id, first_name, second_id, second_name, \
                stake_minor, initial_ms, increment_ms, created_at FROM lobby \
                WHERE (is_private = 0 OR first_id = $1 OR second_id = $1 OR opponent_id = $1) \
                AND ($2 = '' OR status = $2) ORDER BY created_at DESC LIMIT $3";
    let rows = sql(text)
        .bind(user_id)
        .bind(status.map_or("", Status::name))
        .bind(PAGE_MAX)
        .all::<Row>(conn)
        .await?;
    rows.into_iter().map(listed).collect()
}

fn listed(row: Row) -> Result<Listed> {
    let (game_id, kind, status, is_private, first, first_name, second, second_name, ..) = &row;
    let (.., stake, initial_ms, increment_ms, created_at) = &row;
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    let initial_ms = count(*initial_ms);
    let places = [
        (Seat::First, first.as_ref().zip(first_name.as_ref())),
        (Seat::Second, second.as_ref().zip(second_name.as_ref())),
    ];
    let players = places.into_iter().filter_map(|(seat, player)| {
        let (user_id, username) = player?;
        Some(PlayerView {
            user_id: user_id.clone(),
            username: username.clone(),
            seat,
            clock_ms: initial_ms,
        })
    });
    let increment_ms = count(*increment_ms);
    Ok(Listed {
        game_id: game_id.clone(),
        kind: kind.parse()?,
        status: Status::of(status)?,
        players: players.collect(),
        stake: (*stake > 0).then(|| Points::of_minor(*stake)),
        clock: Clock {
            initial_ms,
            increment_ms,
        },
        private: *is_private != 0,
        created_at: created_at
            .parse::<Timestamp>()
            .map_err(|error| Error::internal("a time can't be read").with_source(error))?,
    })
}
