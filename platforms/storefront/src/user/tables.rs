//! Profiles and addresses. The address that was added last is the default.

use trunkline::{Conn, Error, ErrorKind, Result, sql};

use super::http::{Profile, StoredAddress};
use crate::events::Address;

pub(super) async fn profile(conn: &mut Conn, user_id: &str) -> Result<Option<Profile>> {
    let text = "SELECT username, full_name, email FROM profiles WHERE user_id = $1";
    let row = sql(text)
        .bind(user_id)
        .first::<(String, String, String)>(conn)
        .await?;
    Ok(row.map(|(username, full_name, email)| Profile {
        user_id: user_id.to_owned(),
        username,
        full_name,
        email,
    }))
}

pub(super) async fn save_profile(conn: &mut Conn, profile: &Profile) -> Result<()> {
    let text = "INSERT INTO profiles (user_id, username, full_name, email) VALUES ($1, $2, $3, $4) \
                ON CONFLICT (user_id) DO UPDATE SET full_name = excluded.full_name, \
                email = excluded.email";
    sql(text)
        .bind(&profile.user_id)
        .bind(&profile.username)
        .bind(&profile.full_name)
        .bind(&profile.email)
        .run(conn)
        .await?;
    Ok(())
}

/// The user's addresses, the default first.
pub(super) async fn addresses(conn: &mut Conn, user_id: &str) -> Result<Vec<StoredAddress>> {
    let text = "SELECT address_id, address FROM addresses WHERE user_id = $1 \
                ORDER BY address_id DESC";
    let rows = sql(text)
        .bind(user_id)
        .all::<(String, String)>(conn)
        .await?;
    let addresses = rows.into_iter().map(|(address_id, json)| {
        let address = serde_json::from_str(&json).map_err(|error| {
            Error::new(
                ErrorKind::Corrupt,
                "address_corrupt",
                "an address can't be read back",
            )
            .with("address_id", &address_id)
            .with_source(error)
        })?;
        Ok(StoredAddress {
            address_id,
            address,
        })
    });
    addresses.collect()
}

pub(super) async fn add_address(
    conn: &mut Conn,
    user_id: &str,
    address_id: &str,
    address: &Address,
) -> Result<()> {
    let json = serde_json::to_string(address)
        .map_err(|error| Error::internal("an address can't be written").with_source(error))?;
    sql("INSERT INTO addresses (address_id, user_id, address) VALUES ($1, $2, $3)")
        .bind(address_id)
        .bind(user_id)
        .bind(json)
        .run(conn)
        .await?;
    Ok(())
}

/// Says whether the user had such an address.
pub(super) async fn remove_address(
    conn: &mut Conn,
    user_id: &str,
    address_id: &str,
) -> Result<bool> {
    let removed = sql("DELETE FROM addresses WHERE user_id = $1 AND address_id = $2")
        .bind(user_id)
        .bind(address_id)
        .run(conn)
        .await?;
    Ok(removed == 1)
}
