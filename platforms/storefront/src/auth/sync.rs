//! The demo user's account.

use trunkline::{Cx, Result, password};

use super::http;
use super::tables::{self, Account};
use crate::demo;

/// Opens the demo user's account on the first start.
pub(super) async fn open_demo_account(cx: Cx) -> Result<()> {
    let there = {
        let mut reader = cx.read().await?;
        tables::find(reader.conn(), demo::USERNAME).await?
    };
    if there.is_some() {
        return Ok(());
    }
    let account = Account {
        username: demo::USERNAME.to_owned(),
        user_id: demo::user_id(demo::USERNAME),
        email: demo::EMAIL.to_owned(),
        password_hash: password::hash(demo::PASSWORD.to_owned(), cx.env()).await?,
    };
    http::open(&cx, &account).await
}
