//! Users as they are stored.

use trunkline::{Conn, Error, Result, Timestamp, sql};

use super::achievements::Achievement;
use super::http::{Earned, NameClaim, Profile, Statistics};
use crate::events::UserRegistered;

pub(super) async fn insert(conn: &mut Conn, user: &UserRegistered, now: Timestamp) -> Result<()> {
    let text = "INSERT INTO profiles (user_id, username, display_name, email, created_at) \
                VALUES ($1, $2, $2, $3, $4) ON CONFLICT (user_id) DO NOTHING";
    sql(text)
        .bind(&user.user_id)
        .bind(&user.username)
        .bind(&user.email)
        .bind(now)
        .run(conn)
        .await?;
    Ok(())
}

/// Says whether there is such a user.
pub(super) async fn rename(conn: &mut Conn, user_id: &str, name: &str) -> Result<bool> {
    let text = "UPDATE profiles SET display_name = $2 WHERE user_id = $1";
    Ok(sql(text).bind(user_id).bind(name).run(conn).await? == 1)
}

pub(super) async fn username(conn: &mut Conn, user_id: &str) -> Result<Option<String>> {
    let text = "SELECT username FROM profiles WHERE user_id = $1";
    let row = sql(text).bind(user_id).first::<(String,)>(conn).await?;
    Ok(row.map(|(username,)| username))
}

/// Says whether the name is this address's now.
pub(super) async fn claim_name(conn: &mut Conn, claim: &NameClaim) -> Result<bool> {
    let text = "INSERT INTO usernames (username, email) VALUES ($1, $2) \
                ON CONFLICT (username) DO UPDATE SET username = excluded.username RETURNING email";
    let claimed = sql(text).bind(&claim.username).bind(&claim.email);
    let (holder,) = claimed.one::<(String,)>(conn).await?;
    Ok(holder == claim.email)
}

pub(super) async fn profile(conn: &mut Conn, user_id: &str) -> Result<Option<Profile>> {
    let text = "SELECT username, display_name, email FROM profiles WHERE user_id = $1";
    let row = sql(text)
        .bind(user_id)
        .first::<(String, String, String)>(conn)
        .await?;
    let Some((username, display_name, email)) = row else {
        return Ok(None);
    };
    Ok(Some(Profile {
        user_id: user_id.to_owned(),
        username,
        display_name,
        email: Some(email),
        statistics: statistics(conn, user_id).await?,
        achievements: achievements(conn, user_id).await?,
    }))
}

/// What a user has played.
pub(super) async fn statistics(conn: &mut Conn, user_id: &str) -> Result<Statistics> {
    let text = "SELECT result, COUNT(*) FROM results WHERE user_id = $1 GROUP BY result";
    let counted = sql(text).bind(user_id).all::<(String, i64)>(conn).await?;
    let of = |result: &str| {
        let found = counted.iter().find(|(counted, _)| counted == result);
        found.map_or(0, |(_, count)| u32::try_from(*count).unwrap_or(u32::MAX))
    };
    let text = "SELECT wins_longest FROM streaks WHERE user_id = $1";
    let longest = sql(text).bind(user_id).first::<(i64,)>(conn).await?;
    let (won, lost, drawn) = (of("won"), of("lost"), of("drawn"));
    Ok(Statistics {
        played: won.saturating_add(lost).saturating_add(drawn),
        won,
        lost,
        drawn,
        wins_in_a_row: longest.map_or(0, |(count,)| u32::try_from(count).unwrap_or(u32::MAX)),
    })
}

async fn achievements(conn: &mut Conn, user_id: &str) -> Result<Vec<Earned>> {
    let text = "SELECT achievement, game_id, earned_at FROM achievements WHERE user_id = $1 \
                ORDER BY earned_at, achievement";
    let rows = sql(text)
        .bind(user_id)
        .all::<(String, String, String)>(conn)
        .await?;
    let shown = rows.into_iter().map(|(achievement, game_id, earned_at)| {
        let title = Achievement::title_of(&achievement).to_owned();
        let earned_at = earned_at
            .parse()
            .map_err(|error: jiff::Error| Error::internal("a time is readable").with_source(error));
        Ok(Earned {
            achievement,
            title,
            game_id,
            earned_at: earned_at?,
        })
    });
    shown.collect()
}

/// Notes how a game ended for a user. Says whether that is news.
pub(super) async fn add_result(
    conn: &mut Conn,
    (user_id, game_id): (&str, &str),
    (kind, result): (&str, &str),
) -> Result<bool> {
    let text = "INSERT INTO results (user_id, game_id, kind, result) VALUES ($1, $2, $3, $4) \
                ON CONFLICT (user_id, game_id) DO NOTHING";
    let added = sql(text)
        .bind(user_id)
        .bind(game_id)
        .bind(kind)
        .bind(result)
        .run(conn)
        .await?;
    Ok(added == 1)
}

/// Counts a win, or ends a row of them; how many there are in the row now.
pub(super) async fn streak(conn: &mut Conn, user_id: &str, won: bool) -> Result<i64> {
    let text = "INSERT INTO streaks (user_id, wins_running, wins_longest) VALUES ($1, $2, $2) \
                ON CONFLICT (user_id) DO UPDATE SET \
                wins_running = (streaks.wins_running + 1) * $2, \
                wins_longest = CASE WHEN (streaks.wins_running + 1) * $2 > streaks.wins_longest \
                THEN streaks.wins_running + 1 ELSE streaks.wins_longest END \
                RETURNING wins_running";
    let counted = sql(text).bind(user_id).bind(i64::from(won));
    let (running,) = counted.one::<(i64,)>(conn).await?;
    Ok(running)
}

/// Notes an achievement. Says whether that is news.
pub(super) async fn earn(
    conn: &mut Conn,
    (user_id, game_id): (&str, &str),
    achievement: Achievement,
    now: Timestamp,
) -> Result<bool> {
    let text = "INSERT INTO achievements (user_id, achievement, game_id, earned_at) \
                VALUES ($1, $2, $3, $4) ON CONFLICT (user_id, achievement) DO NOTHING";
    let earned = sql(text)
        .bind(user_id)
        .bind(achievement.name())
        .bind(game_id)
        .bind(now)
        .run(conn)
        .await?;
    Ok(earned == 1)
}
