//! How the stakes of matches stand.

use trunkline::{Conn, Error, Result, sql};

use crate::Points;

/// The stakes of a match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stakes {
    pub(super) match_id: String,
    pub(super) state: State,
    pub(super) stake: Points,
    pub(super) players: Vec<String>,
    pub(super) lacking: Option<String>,
}

/// How they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// They are set aside.
    Held,
    /// Somebody had less.
    Refused,
    /// They were given back, or never will be held.
    Released,
    /// They have gone to whom they were for.
    Settled,
}

impl State {
    const ALL: [Self; 4] = [Self::Held, Self::Refused, Self::Released, Self::Settled];

    fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Refused => "refused",
            Self::Released => "released",
            Self::Settled => "settled",
        }
    }
}

/// Notes the stakes of a match that is new. Says whether it was.
pub(super) async fn insert(conn: &mut Conn, stakes: &Stakes) -> Result<bool> {
    let text = "INSERT INTO stakes (match_id, state, stake_minor, players, lacking) \
                VALUES ($1, $2, $3, $4, $5) ON CONFLICT (match_id) DO NOTHING";
    let players = serde_json::to_string(&stakes.players)
        .map_err(|error| Error::internal("ids are JSON").with_source(error))?;
    let inserted = sql(text)
        .bind(&stakes.match_id)
        .bind(stakes.state.word())
        .bind(stakes.stake.minor())
        .bind(players)
        .bind(&stakes.lacking)
        .run(conn)
        .await?;
    Ok(inserted == 1)
}

/// Notes that somebody had less.
pub(super) async fn refuse(conn: &mut Conn, match_id: &str, lacking: &str) -> Result<()> {
    let text = "UPDATE stakes SET state = 'refused', lacking = $2 WHERE match_id = $1";
    sql(text).bind(match_id).bind(lacking).run(conn).await?;
    Ok(())
}

/// Ends stakes that are held. Says whether they were.
pub(super) async fn end(conn: &mut Conn, match_id: &str, state: State) -> Result<bool> {
    let text = "UPDATE stakes SET state = $2 WHERE match_id = $1 AND state = 'held'";
    let ended = sql(text).bind(match_id).bind(state.word());
    Ok(ended.run(conn).await? == 1)
}

pub(super) async fn find(conn: &mut Conn, match_id: &str) -> Result<Option<Stakes>> {
    let text = "SELECT state, stake_minor, players, lacking FROM stakes WHERE match_id = $1";
    let row = sql(text)
        .bind(match_id)
        .first::<(String, i64, String, Option<String>)>(conn)
        .await?;
    let Some((state, minor, players, lacking)) = row else {
        return Ok(None);
    };
    let known = State::ALL.into_iter().find(|known| known.word() == state);
    Ok(Some(Stakes {
        match_id: match_id.to_owned(),
        state: known.ok_or_else(|| Error::internal("the state of stakes is known"))?,
        stake: Points::of_minor(minor),
        players: serde_json::from_str(&players)
            .map_err(|error| Error::internal("ids are JSON").with_source(error))?,
        lacking,
    }))
}
