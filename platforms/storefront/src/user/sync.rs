//! Profiles come from registrations.

use trunkline::{Cx, Event, Result};

use super::http::Profile;
use super::tables;
use crate::demo;
use crate::events::UserRegistered;

/// Somebody opened an account.
pub(super) async fn registered(cx: Cx, event: Event<UserRegistered>) -> Result<()> {
    let UserRegistered {
        user_id,
        username,
        email,
    } = event.data;
    let mut tx = cx.tx().await?;
    let profile = Profile {
        user_id,
        full_name: username.clone(),
        username,
        email,
    };
    tables::save_profile(tx.conn(), &profile).await
}

/// So that the demo user's first order needs no address.
pub(super) async fn give_demo_user_an_address(cx: Cx) -> Result<()> {
    let user_id = demo::user_id(demo::USERNAME);
    let mut tx = cx.tx().await?;
    if !tables::addresses(tx.conn(), &user_id).await?.is_empty() {
        return Ok(());
    }
    let address_id = cx.env().id().to_string();
    tables::add_address(tx.conn(), &user_id, &address_id, &demo::address()).await
}
