//! What changes among a store's dead letters, told to the consumers of this process and of others.

use std::time::Duration;

use bytestring::ByteString;
use parking_lot::Mutex;
use sqlx::postgres::PgListener;
use tokio::task::JoinSet;
use trunkline_bus::{Change, ChangeTeller, Changes};
use trunkline_core::Result;

use crate::error::sql_error;
use crate::outbox::lock_number;
use crate::postgres::Postgres;
use crate::store::Backend;
use crate::{Store, Tx};

/// What a notification may have at most (PostgreSQL: below 8,000 bytes); of more it says that anything
/// may have changed.
const PAYLOAD_BYTES_MAX: usize = 7_900;

/// Pauses before it listens again, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Tells of changes. On PostgreSQL it listens to other processes once somebody in this one wants to know.
#[derive(Debug, Default)]
pub(crate) struct News {
    teller: ChangeTeller,
    /// One task at most; it ends with the store.
    listener: Mutex<JoinSet<()>>,
}

impl News {
    pub(crate) fn teller(&self) -> &ChangeTeller {
        &self.teller
    }

    pub(super) fn listen(&self, store: &Store) -> Changes {
        let Backend::Postgres(postgres) = store.backend() else {
            return self.teller.listen(false);
        };
        let changes = self.teller.listen(true);
        let mut listener = self.listener.lock();
        if listener.is_empty() {
            let channel = channel(postgres);
            let url = postgres.url().to_owned();
            let listening = listen(url, channel, store.owner().to_owned(), self.teller.clone());
            listener.spawn(listening);
        }
        changes
    }

    pub(crate) fn close(&self) {
        self.listener.lock().abort_all();
    }
}

/// Passes on what other processes tell, for ever. While it does not hear, nothing is wrong for long: an
/// event is not handled before the lot was asked for its key.
async fn listen(url: String, channel: String, owner: String, teller: ChangeTeller) {
    let mut pause = PAUSE_MIN;
    loop {
        let error = match connect(&url, &channel).await {
            Ok(mut listener) => {
                pause = PAUSE_MIN;
                // What was told before it listened is not known.
                teller.tell(Change::Unknown);
                pass_on(&mut listener, &owner, &teller).await
            }
            Err(error) => error,
        };
        tracing::debug!(%error, ?pause, "dead letters of other processes are not heard of");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn connect(url: &str, channel: &str) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen(channel).await?;
    Ok(listener)
}

/// Until the connection is lost.
async fn pass_on(listener: &mut PgListener, owner: &str, teller: &ChangeTeller) -> sqlx::Error {
    loop {
        match listener.try_recv().await {
            Ok(Some(heard)) => {
                if let Some(change) = read(heard.payload(), owner) {
                    teller.tell(change);
                }
            }
            // It has connected again, and may have missed some.
            Ok(None) => teller.tell(Change::Unknown),
            Err(error) => return error,
        }
    }
}

/// Tells other processes when the transaction commits.
pub(super) async fn notify(
    tx: &mut Tx,
    postgres: &Postgres,
    owner: &str,
    change: &Change,
) -> Result<()> {
    sqlx::query("SELECT CAST(pg_notify($1, $2) AS TEXT)")
        .bind(channel(postgres))
        .bind(write(owner, change))
        .execute(tx.conn())
        .await
        .map_err(sql_error)?;
    Ok(())
}

fn channel(postgres: &Postgres) -> String {
    format!(
        "trunkline_{:016x}",
        lock_number(&["letters", &postgres.schema])
    )
}

/// `["owner", "parked", "group", "key"]`
fn write(owner: &str, change: &Change) -> String {
    let written = match change {
        Change::Parked { group, key } => serde_json::json!([owner, "parked", group, key]),
        Change::Freed { group, key } => serde_json::json!([owner, "freed", group, key]),
        Change::Unknown => serde_json::json!([owner, "unknown", "", ""]),
    };
    let text = written.to_string();
    if text.len() > PAYLOAD_BYTES_MAX {
        return write(owner, &Change::Unknown);
    }
    text
}

/// None for what this process has told itself.
fn read(payload: &str, owner: &str) -> Option<Change> {
    let Ok((from, what, group, key)) =
        serde_json::from_str::<(String, String, String, String)>(payload)
    else {
        return Some(Change::Unknown);
    };
    if from == owner {
        return None;
    }
    let (group, key) = (ByteString::from(group), ByteString::from(key));
    Some(match what.as_str() {
        "parked" => Change::Parked { group, key },
        "freed" => Change::Freed { group, key },
        _ => Change::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood_elsewhere_and_not_at_home() {
        let change = Change::Parked {
            group: "g".into(),
            key: "with \" and \0 and é".into(),
        };
        let told = write("me", &change);
        assert!(!told.contains('\0'), "PostgreSQL refuses it: {told}");
        assert_eq!(read(&told, "you"), Some(change));
        assert_eq!(read(&told, "me"), None);
        let long = Change::Freed {
            group: "g".into(),
            key: "k".repeat(9_000).into(),
        };
        assert_eq!(read(&write("me", &long), "you"), Some(Change::Unknown));
        assert_eq!(read("of a later version", "you"), Some(Change::Unknown));
    }
}
