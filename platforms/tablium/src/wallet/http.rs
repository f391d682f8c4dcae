//! Wallets as they are asked for and shown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Error, Json, Path, Result};

use super::WELCOME;
use super::book::{self, Account, Moved, Movement};
use crate::events::{BalanceUpdated, TransactionCreated, WalletCreated};
use crate::{Points, STAFF, limits};

/// What a user has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wallet {
    /// Its id.
    pub wallet_id: String,
    /// Whose it is.
    pub user_id: String,
    /// What can be spent.
    pub balance: Points,
}

/// What the ledger has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sums {
    /// All accounts together: nothing, if no points were made or lost.
    pub sum: Points,
    /// What is set aside for matches.
    pub held: Points,
}

/// A user's wallets: one, or none of a user who is not known.
pub(super) async fn wallets(cx: Cx, Path(user_id): Path<String>) -> Result<Json<Vec<Wallet>>> {
    limits::id("userId", &user_id)?;
    let mut reader = cx.read().await?;
    let balance = book::balance(reader.conn(), &Account::User(user_id.clone())).await?;
    let wallet = balance.map(|balance| Wallet {
        wallet_id: wallet_id(&user_id),
        user_id,
        balance,
    });
    Ok(Json(wallet.into_iter().collect()))
}

/// Creates a user's wallet, once, with what newcomers begin with.
pub(super) async fn create(cx: Cx, Path(user_id): Path<String>) -> Result<Json<Vec<Wallet>>> {
    limits::id("userId", &user_id)?;
    let account = Account::User(user_id.clone());
    let welcome = Movement {
        name: format!("{user_id}:welcome"),
        from: Account::House,
        to: account.clone(),
        amount: WELCOME,
    };
    let mut tx = cx.tx().await?;
    let moved = book::apply(tx.conn(), &welcome, cx.now()).await?;
    let balance = book::balance(tx.conn(), &account).await?;
    drop(tx);
    let balance = balance.ok_or_else(|| Error::internal("a wallet was just made"))?;
    if moved != Moved::Before {
        cx.publish(WalletCreated {
            user_id: user_id.clone(),
            wallet_id: wallet_id(&user_id),
            balance,
        })
        .await?;
        tell(&cx, &user_id, &welcome.name, (WELCOME, balance)).await?;
    }
    Ok(Json(vec![Wallet {
        wallet_id: wallet_id(&user_id),
        user_id,
        balance,
    }]))
}

/// The sums of the ledger, for those who run the site.
pub(super) async fn sums(cx: Cx) -> Result<Json<Sums>> {
    cx.require_role(STAFF)?;
    let mut reader = cx.read().await?;
    let (sum, held) = book::sums(reader.conn()).await?;
    Ok(Json(Sums { sum, held }))
}

/// Tells of a movement that changed a user's wallet.
pub(super) async fn tell(
    cx: &Cx,
    user_id: &str,
    movement: &str,
    (amount, balance): (Points, Points),
) -> Result<()> {
    cx.publish(TransactionCreated {
        transaction_id: movement.to_owned(),
        user_id: user_id.to_owned(),
        amount,
    })
    .await?;
    cx.publish(BalanceUpdated {
        user_id: user_id.to_owned(),
        balance,
    })
    .await
}

fn wallet_id(user_id: &str) -> String {
    format!("wal_{}", user_id.strip_prefix("usr_").unwrap_or(user_id))
}
