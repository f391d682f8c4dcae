//! Wallets as they are asked for and shown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Error, Json, Path, Result};

use super::book::{self, Account, Movement};
use crate::events::WalletUpdated;
use crate::{Amount, STAFF, limits};

/// What a user has of one currency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Balance {
    /// How much can be spent.
    pub balance: Amount,
}

/// Money that comes in.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewDeposit {
    /// How much.
    pub amount: Amount,
}

/// Money that came in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deposit {
    /// Its id.
    pub deposit_id: String,
    /// How much the user has now.
    pub balance: Amount,
}

/// Money to set aside for a transaction.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewHold {
    /// The transaction: it has one hold.
    pub transaction_id: String,
    /// Whose money.
    pub user_id: String,
    /// How much.
    pub amount: Amount,
}

/// Money that is, or was, set aside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// The transaction.
    pub transaction_id: String,
    /// How it stands.
    pub status: HoldStatus,
}

/// How a hold stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoldStatus {
    /// The money is set aside.
    Held,
    /// It is the user's again, or never will be held.
    Released,
    /// It has gone to whom it was meant for.
    Settled,
}

/// What the ledger has of one currency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sum {
    /// All accounts together: nothing, if no money was made or lost.
    pub sum: Amount,
    /// What is set aside for transactions.
    pub held: Amount,
}

pub(super) async fn balances(cx: Cx) -> Result<Json<Vec<Balance>>> {
    let account = Account::User(cx.user()?.to_string());
    let mut reader = cx.read().await?;
    let amounts = book::balances(reader.conn(), &account).await?;
    let balances = amounts.into_iter().map(|balance| Balance { balance });
    Ok(Json(balances.collect()))
}

pub(super) async fn deposit(cx: Cx, Json(new): Json<NewDeposit>) -> Result<Json<Deposit>> {
    let user = cx.user()?.to_string();
    let deposit_id = format!("dep_{}", cx.stable_id());
    let movement = Movement {
        name: format!("{deposit_id}:deposit"),
        from: Account::Outside,
        to: Account::User(user.clone()),
        amount: new.amount.positive()?,
    };
    let mut tx = cx.tx().await?;
    let moved = book::apply(tx.conn(), &movement, cx.now()).await?;
    drop(tx);
    let (_, balance) = moved.ok_or_else(|| Error::internal("a deposit has an id of its own"))?;
    updated(&cx, user, deposit_id.clone(), (new.amount, balance)).await?;
    Ok(Json(Deposit {
        deposit_id,
        balance,
    }))
}

/// The sums of the ledger, for those who run the platform.
pub(super) async fn sums(cx: Cx) -> Result<Json<Vec<Sum>>> {
    cx.require_role(STAFF)?;
    let mut reader = cx.read().await?;
    let sums = book::sums(reader.conn()).await?;
    Ok(Json(
        sums.into_iter()
            .map(|(sum, held)| Sum { sum, held })
            .collect(),
    ))
}

/// Sets money aside, once for each transaction. One that was released before it came is refused.
pub(super) async fn hold(cx: Cx, Json(new): Json<NewHold>) -> Result<Json<Hold>> {
    limits::id("transactionId", &new.transaction_id)?;
    limits::id("userId", &new.user_id)?;
    let NewHold {
        transaction_id,
        user_id,
        amount,
    } = new;
    let movement = Movement {
        name: format!("{transaction_id}:hold"),
        from: Account::User(user_id.clone()),
        to: Account::Held(transaction_id.clone()),
        amount: amount.positive()?,
    };
    let mut tx = cx.tx().await?;
    if let Some(moved) = book::apply(tx.conn(), &movement, cx.now()).await? {
        drop(tx);
        updated(
            &cx,
            user_id,
            transaction_id.clone(),
            (amount.negated(), moved.0),
        )
        .await?;
    } else {
        let there = book::made(tx.conn(), &movement.name).await?;
        if there.is_none_or(|there| there != amount) {
            let text = "the transaction was released before, or has a hold of another amount";
            return Err(Error::conflict("hold_refused", text));
        }
    }
    let status = HoldStatus::Held;
    Ok(Json(Hold {
        transaction_id,
        status,
    }))
}

/// Gives a hold back, once. One that is not there yet never will be.
pub(super) async fn release(cx: Cx, Path(transaction_id): Path<String>) -> Result<Json<Hold>> {
    limits::id("transactionId", &transaction_id)?;
    let mut tx = cx.tx().await?;
    let nothing = Movement {
        name: format!("{transaction_id}:hold"),
        from: Account::Outside,
        to: Account::Outside,
        amount: Amount::of_minor(0, crate::Currency::Usd),
    };
    if book::apply(tx.conn(), &nothing, cx.now()).await?.is_some() {
        let status = HoldStatus::Released;
        return Ok(Json(Hold {
            transaction_id,
            status,
        }));
    }
    if book::made(tx.conn(), &format!("{transaction_id}:settle"))
        .await?
        .is_some()
    {
        let text = "the transaction is settled: its money has gone to whom it was meant for";
        return Err(Error::conflict("hold_settled", text));
    }
    let status = HoldStatus::Released;
    let held = book::holder(tx.conn(), &nothing.name).await?;
    if let Some((user_id, amount)) = held {
        let back = Movement {
            name: format!("{transaction_id}:release"),
            from: Account::Held(transaction_id.clone()),
            to: Account::User(user_id.clone()),
            amount,
        };
        let moved = book::apply(tx.conn(), &back, cx.now()).await?;
        drop(tx);
        if let Some((_, balance)) = moved {
            updated(&cx, user_id, transaction_id.clone(), (amount, balance)).await?;
        }
    }
    Ok(Json(Hold {
        transaction_id,
        status,
    }))
}

pub(super) async fn updated(
    cx: &Cx,
    user_id: String,
    cause: String,
    (change, balance): (Amount, Amount),
) -> Result<()> {
    cx.publish(WalletUpdated {
        user_id,
        cause,
        change,
        balance,
    })
    .await
}
