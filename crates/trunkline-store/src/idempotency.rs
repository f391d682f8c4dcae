//! Idempotency keys: the same request has its effect once and gets the same answer.

use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::{AnyConnection, Row};
use trunkline_core::{Error, ErrorKind, Result};

use crate::error::{corrupt, sql_error};
use crate::migrate::hex;
use crate::{Engine, Store};

/// The largest body of an answer that is stored.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The longest key or scope.
const KEY_BYTES_MAX: usize = 512;

/// Expired keys removed with each new one, at most.
const PRUNE_SQLITE: &str = "DELETE FROM trunkline_idempotency WHERE (scope, key) IN \
    (SELECT scope, key FROM trunkline_idempotency WHERE expires_at < $1 LIMIT 8)";
const PRUNE_POSTGRES: &str = "DELETE FROM trunkline_idempotency WHERE (scope, key) IN \
    (SELECT scope, key FROM trunkline_idempotency WHERE expires_at < $1 LIMIT 8 \
     FOR UPDATE SKIP LOCKED)";

// A key that has expired, or whose holder's lease has, is taken over by the same statement, so that of
// two who try one gets it.
const TAKE: &str = "INSERT INTO trunkline_idempotency AS known \
    (scope, key, body_hash, owner, lease_until, expires_at) VALUES ($1, $2, $3, $4, $5, $6) \
    ON CONFLICT (scope, key) DO UPDATE SET body_hash = excluded.body_hash, \
    owner = excluded.owner, lease_until = excluded.lease_until, \
    expires_at = excluded.expires_at, status = NULL, headers = NULL, body = NULL \
    WHERE known.expires_at <= $7 OR (known.status IS NULL AND known.lease_until <= $7 \
    AND known.body_hash = excluded.body_hash)";

const FIND: &str = "SELECT body_hash, status, headers, body FROM trunkline_idempotency \
    WHERE scope = $1 AND key = $2 AND expires_at > $3";

const COMPLETE: &str = "UPDATE trunkline_idempotency SET status = $1, headers = $2, body = $3, \
    owner = NULL, expires_at = $4 WHERE scope = $5 AND key = $6 AND owner = $7 AND status IS NULL";

const ABANDON: &str = "DELETE FROM trunkline_idempotency \
    WHERE scope = $1 AND key = $2 AND owner = $3 AND status IS NULL";

/// The hash that [`Idempotency::begin`] compares: SHA-256 of the request's body.
pub fn body_hash(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

/// The idempotency keys of one service.
///
/// # Guarantees
/// Of all requests with one scope and key, the effect of one is committed: its answer is stored in
/// the same transaction, which fails for whoever lost the key meanwhile. A key whose holder died is
/// free when its lease ends (15 seconds), on SQLite at the next start already. Answers are kept for 24
/// hours.
#[derive(Debug, Clone)]
pub struct Idempotency {
    store: Store,
}

/// What a request with an idempotency key should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Do the work, then [`crate::Tx::complete_idempotent`] or [`Idempotency::abandon`].
    Started,
    /// Answer this: it was done before.
    Replay(StoredResponse),
    /// The key was used with another body (422).
    Mismatch,
    /// The same request is still running (409).
    Running,
}

/// An answer as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// The HTTP status.
    pub status: u16,
    /// The headers worth repeating, such as `content-type` and `location`.
    pub headers: Vec<(String, String)>,
    /// The body, at most 1 MiB.
    pub body: Vec<u8>,
}

impl Idempotency {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Takes the key, or says what happened to it before. `scope` keeps operations and users apart.
    ///
    /// # Errors
    /// `InvalidInput` for an empty key or one above 512 bytes; otherwise as any transaction.
    pub async fn begin(&self, scope: &str, key: &str, body_hash: [u8; 32]) -> Result<Begin> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX || scope.len() > KEY_BYTES_MAX {
            return Err(Error::invalid(
                "idempotency_key_invalid",
                "expected an idempotency key of 1 to 512 bytes",
            ));
        }
        let hash = hex(&body_hash);
        // An answer is found without the writer, and most repeats come after it.
        let mut reader = self.store.read().await?;
        if let Some(known) = self.find(reader.conn(), (scope, key), &hash).await?
            && known != Begin::Running
        {
            self.store.settled().await?;
            return Ok(known);
        }
        drop(reader);
        // If the machine dies, the work that the key stands for is gone too: no fsync for it.
        let mut tx = self.store.begin_relaxed().await?;
        let now = self.store.now_micros();
        let config = self.store.config();
        let lease_until = now.saturating_add(micros(config.idempotency_lease));
        let taken = sqlx::query(TAKE)
            .bind(scope)
            .bind(key)
            .bind(hash.as_str())
            .bind(self.store.owner())
            .bind(lease_until)
            .bind(lease_until.saturating_add(micros(config.idempotency_window)))
            .bind(now)
            .execute(tx.conn())
            .await
            .map_err(sql_error)?;
        if taken.rows_affected() > 0 {
            let prune = match self.store.engine() {
                Engine::Sqlite => PRUNE_SQLITE,
                Engine::Postgres => PRUNE_POSTGRES,
            };
            sqlx::query(prune)
                .bind(now)
                .execute(tx.conn())
                .await
                .map_err(sql_error)?;
            tx.commit().await?;
            return Ok(Begin::Started);
        }
        let known = self.find(tx.conn(), (scope, key), &hash).await?;
        tx.rollback().await?;
        // Given back a moment ago: the next request may try.
        Ok(known.unwrap_or(Begin::Running))
    }

    /// Gives the key back: the work failed with no effect, and the next request may try.
    ///
    /// # Errors
    /// As any transaction.
    pub async fn abandon(&self, scope: &str, key: &str) -> Result<()> {
        let mut tx = self.store.begin_relaxed().await?;
        sqlx::query(ABANDON)
            .bind(scope)
            .bind(key)
            .bind(self.store.owner())
            .execute(tx.conn())
            .await
            .map_err(sql_error)?;
        tx.commit().await
    }

    async fn find(
        &self,
        conn: &mut AnyConnection,
        (scope, key): (&str, &str),
        hash: &str,
    ) -> Result<Option<Begin>> {
        let row = sqlx::query(FIND)
            .bind(scope)
            .bind(key)
            .bind(self.store.now_micros())
            .fetch_optional(conn)
            .await
            .map_err(sql_error)?;
        let Some(row) = row else { return Ok(None) };
        if row.try_get::<String, _>(0).map_err(sql_error)? != hash {
            return Ok(Some(Begin::Mismatch));
        }
        let Some(status) = row.try_get::<Option<i64>, _>(1).map_err(sql_error)? else {
            return Ok(Some(Begin::Running));
        };
        let headers: String = row.try_get(2).map_err(sql_error)?;
        let damaged = || corrupt("a stored answer can't be read");
        Ok(Some(Begin::Replay(StoredResponse {
            status: u16::try_from(status).map_err(|_| damaged())?,
            headers: serde_json::from_str(&headers)
                .map_err(|error| damaged().with_source(error))?,
            body: row.try_get(3).map_err(sql_error)?,
        })))
    }
}

/// Stores the answer in the transaction that has the effect.
pub(crate) async fn complete(
    store: &Store,
    conn: &mut AnyConnection,
    (scope, key): (&str, &str),
    response: &StoredResponse,
) -> Result<()> {
    if response.body.len() > BODY_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::TooLarge,
            "idempotent_answer_too_large",
            "an answer to an idempotent request may have 1 MiB at most",
        ));
    }
    let headers = serde_json::to_string(&response.headers)
        .map_err(|error| Error::internal("headers are texts").with_source(error))?;
    let expires = store
        .now_micros()
        .saturating_add(micros(store.config().idempotency_window));
    let done = sqlx::query(COMPLETE)
        .bind(i64::from(response.status))
        .bind(headers)
        .bind(response.body.as_slice())
        .bind(expires)
        .bind(scope)
        .bind(key)
        .bind(store.owner())
        .execute(conn)
        .await
        .map_err(sql_error)?;
    if done.rows_affected() == 0 {
        return Err(Error::conflict(
            "idempotency_key_lost",
            "another request has taken the idempotency key",
        ));
    }
    Ok(())
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
