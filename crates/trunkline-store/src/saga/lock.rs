//! The order in which a batch takes its rows on PostgreSQL, where several write at a time.
//!
//! Two batches that tell the same instances in different orders would wait for each other, and the server
//! would end one of them. So a batch that tells anybody locks all that it is about first, by id.

use std::sync::LazyLock;

use sqlx::AnyConnection;
use trunkline_core::{ByteString, Result};
use trunkline_saga::{Which, Write};
use uuid::Uuid;

use super::bulk::{Bulk, bytes, ids};
use super::rows;

static FIND: LazyLock<Bulk> = LazyLock::new(|| {
    let before = "SELECT id FROM trunkline_saga WHERE (saga, key) IN ";
    Bulk::new(before, 2, "")
});

static LOCK: LazyLock<Bulk> = LazyLock::new(|| {
    let before = "SELECT id FROM trunkline_saga WHERE id IN ";
    Bulk::new(before, 1, "ORDER BY id FOR UPDATE")
});

/// Locks the rows of a batch.
pub(super) async fn all(conn: &mut AnyConnection, batch: &[Write]) -> Result<()> {
    let mut about = Vec::new();
    let mut named = Vec::new();
    let mut tells = false;
    for write in batch {
        let parent = match write {
            Write::Went(went) => {
                about.push(went.id);
                went.change
                    .as_ref()
                    .and_then(|change| change.tell_parent.as_ref())
            }
            Write::Tell(which, _) => {
                tells = true;
                match which {
                    Which::Id(id) => about.push(*id),
                    Which::Key(saga, key) => named.push((saga, key)),
                }
                None
            }
            Write::Start(_) | Write::Mend(_) | Write::Prune(..) => None,
        };
        tells |= parent.is_some();
        about.extend(parent.map(|(id, _)| *id));
    }
    if !tells || batch.len() < 2 {
        return Ok(());
    }
    about.extend(find(conn, &named).await?);
    about.sort_unstable();
    about.dedup();
    let locked = LOCK.fetch(conn, &about, |query, id| {
        Ok(query.bind(id.map(|id| bytes(*id))))
    });
    locked.await?;
    Ok(())
}

async fn find(conn: &mut AnyConnection, named: &[(&ByteString, &ByteString)]) -> Result<Vec<Uuid>> {
    let found = FIND.fetch(conn, named, |query, row| {
        let (saga, key) = row.copied().unzip();
        Ok(query
            .bind(saga.map(rows::written))
            .bind(key.map(rows::written)))
    });
    ids(&found.await?)
}
