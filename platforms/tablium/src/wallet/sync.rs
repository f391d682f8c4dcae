//! What wallets do about what they are asked for a match. Each of it is done once, whatever comes twice or late.

use trunkline::{Cx, Error, Event, Result};

use super::book::{self, Account, Moved, Movement};
use super::http::tell;
use super::stakes::{self, Stakes, State};
use crate::Points;
use crate::events::{
    HoldDecided, HoldRequested, MatchSettled, ReleaseRequested, SettlementRequested,
};

/// Sets the stakes of all players aside, or of none.
pub(super) async fn hold(cx: Cx, event: Event<HoldRequested>) -> Result<()> {
    let mut asked = event.data;
    // Two matches of the same players take their accounts in one order.
    asked.players.sort();
    let new = Stakes {
        match_id: asked.match_id.clone(),
        state: State::Held,
        stake: asked.stake,
        players: asked.players.clone(),
        lacking: None,
    };
    let mut tx = cx.tx().await?;
    let is_new = stakes::insert(tx.conn(), &new).await?;
    drop(tx);
    if is_new && let Some(lacking) = take(&cx, &new).await? {
        let mut tx = cx.tx().await?;
        stakes::refuse(tx.conn(), &new.match_id, &lacking).await?;
    }
    let mut tx = cx.tx().await?;
    let found = stakes::find(tx.conn(), &asked.match_id).await?;
    drop(tx);
    let found = found.ok_or_else(|| Error::internal("the stakes were just noted"))?;
    cx.publish(HoldDecided {
        match_id: asked.match_id,
        held: found.state == State::Held || found.state == State::Settled,
        lacking: found.lacking,
    })
    .await
}

/// Takes the stakes from all; who has less, after what was taken is given back.
async fn take(cx: &Cx, stakes: &Stakes) -> Result<Option<String>> {
    for (number, player) in stakes.players.iter().enumerate() {
        let from = Account::User(player.clone());
        let to = Account::Held(stakes.match_id.clone());
        let moved = transfer(cx, (stakes, "hold", player), (from, to), stakes.stake).await?;
        if moved == Moved::Lacking {
            for before in stakes.players.iter().take(number) {
                give_back(cx, stakes, before).await?;
            }
            return Ok(Some(player.clone()));
        }
    }
    Ok(None)
}

/// Gives the stakes back, once. Those that are not there yet never will be.
pub(super) async fn release(cx: Cx, event: Event<ReleaseRequested>) -> Result<()> {
    let match_id = event.data.match_id;
    let never = Stakes {
        match_id: match_id.clone(),
        state: State::Released,
        stake: Points::of_minor(0),
        players: Vec::new(),
        lacking: None,
    };
    let mut tx = cx.tx().await?;
    if stakes::insert(tx.conn(), &never).await?
        || !stakes::end(tx.conn(), &match_id, State::Released).await?
    {
        return Ok(());
    }
    let found = stakes::find(tx.conn(), &match_id).await?;
    drop(tx);
    for player in found.iter().flat_map(|stakes| &stakes.players) {
        if let Some(stakes) = &found {
            give_back(&cx, stakes, player).await?;
        }
    }
    Ok(())
}

/// Gives all to who won, or each their own.
pub(super) async fn settle(cx: Cx, event: Event<SettlementRequested>) -> Result<()> {
    let SettlementRequested {
        match_id,
        winner_id,
    } = event.data;
    let mut tx = cx.tx().await?;
    let is_held = stakes::end(tx.conn(), &match_id, State::Settled).await?;
    let found = stakes::find(tx.conn(), &match_id).await?;
    drop(tx);
    let Some(found) = found.filter(|found| found.state == State::Settled) else {
        let text = "a match is to be settled of which nothing is held";
        return Err(Error::conflict("hold_missing", text).with("match", match_id));
    };
    if is_held {
        for player in &found.players {
            match &winner_id {
                None => give_back(&cx, &found, player).await?,
                Some(winner) => {
                    let from = Account::Held(match_id.clone());
                    let name = (&found, "stake", &**player);
                    let to = Account::User(winner.clone());
                    transfer(&cx, name, (from, to), found.stake).await?;
                }
            }
        }
    }
    cx.publish(MatchSettled { match_id }).await
}

async fn give_back(cx: &Cx, stakes: &Stakes, player: &str) -> Result<()> {
    let from = Account::Held(stakes.match_id.clone());
    let to = Account::User(player.to_owned());
    transfer(cx, (stakes, "return", player), (from, to), stakes.stake).await?;
    Ok(())
}

/// Moves something for a match, and tells whoever it is about.
async fn transfer(
    cx: &Cx,
    (stakes, what, player): (&Stakes, &str, &str),
    (from, to): (Account, Account),
    amount: Points,
) -> Result<Moved> {
    let movement = Movement {
        name: format!("{}:{what}:{player}", stakes.match_id),
        from,
        to,
        amount,
    };
    let mut tx = cx.tx().await?;
    let moved = book::apply(tx.conn(), &movement, cx.now()).await?;
    drop(tx);
    if let Moved::Now { from, to } = moved {
        if let Account::User(user) = &movement.from {
            tell(cx, user, &movement.name, (amount.negated(), from)).await?;
        }
        if let Account::User(user) = &movement.to {
            tell(cx, user, &movement.name, (amount, to)).await?;
        }
    }
    Ok(moved)
}
