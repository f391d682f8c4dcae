//! The toolkit's own tables in every store. The two engines differ in how an id is numbered and in
//! the name of the type for bytes, and nowhere else.

use crate::{Engine, Migration};

/// The toolkit's own migrations, applied when a store is opened.
pub(crate) fn migrations(engine: Engine) -> [Migration; 5] {
    let (store, saga, sourcing, alert) = match engine {
        Engine::Sqlite => (SQLITE, SQLITE_SAGA, SQLITE_SOURCING, SQLITE_ALERT),
        Engine::Postgres => (POSTGRES, POSTGRES_SAGA, POSTGRES_SOURCING, POSTGRES_ALERT),
    };
    [
        Migration {
            name: "trunkline/0001_store",
            sql: store,
        },
        Migration {
            name: "trunkline/0002_saga",
            sql: saga,
        },
        Migration {
            name: "trunkline/0003_recovery",
            sql: RECOVERY,
        },
        Migration {
            name: "trunkline/0004_sourcing",
            sql: sourcing,
        },
        Migration {
            name: "trunkline/0005_alert",
            sql: alert,
        },
    ]
}

/// The trail's own migrations, applied where a trail is opened.
pub(crate) fn trail_migrations(engine: Engine) -> [Migration; 1] {
    let sql = match engine {
        Engine::Sqlite => SQLITE_TRAIL,
        Engine::Postgres => POSTGRES_TRAIL,
    };
    [Migration {
        name: "trunkline/0001_trail",
        sql,
    }]
}

// What a service decides about its dead letters.
const RECOVERY: &str = "ALTER TABLE trunkline_dead_letter ADD COLUMN retry TEXT;
     ALTER TABLE trunkline_dead_letter ADD COLUMN recoveries BIGINT NOT NULL DEFAULT 0;
     ALTER TABLE trunkline_dead_letter ADD COLUMN decided_at BIGINT;
     ALTER TABLE trunkline_dead_letter ADD COLUMN retry_at BIGINT;
     CREATE INDEX trunkline_dead_letter_undecided ON trunkline_dead_letter (consumer, seq)
       WHERE error IS NOT NULL AND decided_at IS NULL;
     CREATE INDEX trunkline_dead_letter_by_retry ON trunkline_dead_letter (consumer, retry_at)
       WHERE retry_at IS NOT NULL;";

// AUTOINCREMENT, because an id must never come again: a relay that was cancelled in the middle of
// its delete may still delete by id a moment later.
macro_rules! tables {
    ($serial:literal, $bytes:literal, $by_key:literal) => {
        concat!(
            "CREATE TABLE trunkline_outbox (id ", $serial, ", event_id TEXT NOT NULL,
               key TEXT NOT NULL, made_at BIGINT NOT NULL, envelope ", $bytes, " NOT NULL);
             CREATE TABLE trunkline_held (id ", $serial, ", event_id TEXT NOT NULL,
               key TEXT NOT NULL, made_at BIGINT NOT NULL, envelope ", $bytes, " NOT NULL,
               error TEXT, stuck_at BIGINT);
             CREATE INDEX trunkline_held_by_key ON trunkline_held (key, id);
             CREATE INDEX trunkline_held_by_event ON trunkline_held (event_id);
             CREATE TABLE trunkline_scheduled (id ", $serial, ", event_id TEXT NOT NULL,
               key TEXT NOT NULL, due BIGINT NOT NULL, envelope ", $bytes, " NOT NULL);
             CREATE INDEX trunkline_scheduled_by_due ON trunkline_scheduled (due, id);
             CREATE INDEX trunkline_scheduled_by_event ON trunkline_scheduled (event_id);
             CREATE TABLE trunkline_inbox (consumer TEXT NOT NULL, event_id TEXT NOT NULL,
               seen_at BIGINT NOT NULL, PRIMARY KEY (consumer, event_id))", $by_key, ";
             CREATE INDEX trunkline_inbox_by_age ON trunkline_inbox (seen_at);
             CREATE TABLE trunkline_idempotency (scope TEXT NOT NULL, key TEXT NOT NULL,
               body_hash TEXT NOT NULL, owner TEXT, lease_until BIGINT NOT NULL,
               expires_at BIGINT NOT NULL, status BIGINT, headers TEXT, body ", $bytes, ",
               PRIMARY KEY (scope, key));
             CREATE INDEX trunkline_idempotency_by_age ON trunkline_idempotency (expires_at);
             CREATE TABLE trunkline_job (name TEXT PRIMARY KEY, next_run BIGINT NOT NULL,
               last_run BIGINT, last_error TEXT, failures BIGINT NOT NULL, owner TEXT,
               claimed_until BIGINT, fence BIGINT NOT NULL);
             CREATE TABLE trunkline_dead_letter (seq ", $serial, ", id TEXT NOT NULL UNIQUE,
               consumer TEXT NOT NULL, key TEXT NOT NULL, event_id TEXT NOT NULL,
               event_type TEXT NOT NULL, envelope ", $bytes, " NOT NULL, original ", $bytes, ",
               error TEXT, code TEXT, attempts BIGINT NOT NULL, replays BIGINT NOT NULL,
               parked_at BIGINT NOT NULL, failed_at BIGINT, UNIQUE (consumer, event_id));
             CREATE INDEX trunkline_dead_letter_by_key ON trunkline_dead_letter (consumer, key, seq);"
        )
    };
}

macro_rules! trail_tables {
    ($serial:literal, $bytes:literal, $by_key:literal) => {
        concat!(
            "CREATE TABLE trunkline_trail (position ",
            $serial,
            ", event_id TEXT NOT NULL,
               source TEXT NOT NULL, event_type TEXT NOT NULL, correlation_id TEXT NOT NULL,
               happened_at BIGINT NOT NULL, recorded_at BIGINT NOT NULL,
               envelope ",
            $bytes,
            " NOT NULL, business_keys TEXT NOT NULL,
               UNIQUE (event_id, source));
             CREATE INDEX trunkline_trail_by_flow ON trunkline_trail (correlation_id, position);
             CREATE INDEX trunkline_trail_by_type ON trunkline_trail (event_type, position);
             CREATE INDEX trunkline_trail_by_time ON trunkline_trail (happened_at);
             CREATE TABLE trunkline_trail_key (business_key TEXT NOT NULL,
               position BIGINT NOT NULL, PRIMARY KEY (business_key, position))",
            $by_key,
            ";
             CREATE INDEX trunkline_trail_key_by_place ON trunkline_trail_key (position);"
        )
    };
}

// `messages` counts those that have come, in the row itself: a guard on it holds on PostgreSQL too, where
// an update that had to wait for another looks at its own row again and at nothing else. An index on a
// correlation id sees its start alone, because PostgreSQL refuses long keys.
macro_rules! saga_tables {
    ($serial:literal, $bytes:literal, $by_key:literal) => {
        concat!(
            "CREATE TABLE trunkline_saga (id ",
            $bytes,
            " PRIMARY KEY, saga TEXT NOT NULL, key TEXT NOT NULL, version BIGINT NOT NULL,
               state TEXT NOT NULL, input TEXT NOT NULL, context TEXT NOT NULL,
               correlation_id TEXT NOT NULL, status TEXT, output TEXT, error TEXT,
               started_at BIGINT NOT NULL, changed_at BIGINT NOT NULL, wake_at BIGINT, owner TEXT,
               parent ",
            $bytes,
            ", messages BIGINT NOT NULL, UNIQUE (saga, key));
             CREATE INDEX trunkline_saga_by_name ON trunkline_saga (saga, id);
             CREATE INDEX trunkline_saga_by_flow
               ON trunkline_saga (substr(correlation_id, 1, 100), id);
             CREATE INDEX trunkline_saga_by_parent ON trunkline_saga (parent, id)
               WHERE parent IS NOT NULL;
             CREATE INDEX trunkline_saga_by_state ON trunkline_saga (state, id)
               WHERE state <> 'completed';
             CREATE INDEX trunkline_saga_by_due ON trunkline_saga (saga, wake_at)
               WHERE owner IS NULL AND wake_at IS NOT NULL
                 AND state IN ('running', 'waiting', 'compensating');
             CREATE INDEX trunkline_saga_by_owner ON trunkline_saga (owner, wake_at)
               WHERE owner IS NOT NULL;
             CREATE INDEX trunkline_saga_by_age ON trunkline_saga (changed_at)
               WHERE state IN ('completed', 'failed', 'compensated');
             CREATE TABLE trunkline_saga_entry (saga_id ",
            $bytes,
            " NOT NULL, seq BIGINT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (saga_id, seq))",
            $by_key,
            ";
             CREATE TABLE trunkline_saga_message (seq ",
            $serial,
            ", saga_id ",
            $bytes,
            " NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, data TEXT NOT NULL,
               told_at BIGINT NOT NULL, UNIQUE (saga_id, id));
             CREATE TABLE trunkline_saga_owner (owner TEXT PRIMARY KEY, until BIGINT NOT NULL);"
        )
    };
}

// `position` is the place among all events of a kind, and is given when an event is seen to be committed: a
// number that the insert took would appear out of order. `name` and `generation` are of a projection.
macro_rules! sourcing_tables {
    ($serial:literal, $by_key:literal) => {
        concat!(
            "CREATE TABLE trunkline_event (id ",
            $serial,
            ", kind TEXT NOT NULL, stream TEXT NOT NULL, version BIGINT NOT NULL, name TEXT NOT NULL,
               name_version BIGINT NOT NULL, data TEXT, recorded_at BIGINT NOT NULL,
               position BIGINT);
             CREATE UNIQUE INDEX trunkline_event_by_stream ON trunkline_event (kind, stream, version);
             CREATE UNIQUE INDEX trunkline_event_by_position ON trunkline_event (kind, position)
               WHERE position IS NOT NULL;
             CREATE INDEX trunkline_event_fresh ON trunkline_event (kind, id)
               WHERE position IS NULL;
             CREATE TABLE trunkline_event_kind (kind TEXT PRIMARY KEY, position BIGINT NOT NULL);
             CREATE TABLE trunkline_snapshot (kind TEXT NOT NULL, stream TEXT NOT NULL,
               state_version BIGINT NOT NULL, version BIGINT NOT NULL, recorded_at BIGINT NOT NULL,
               state TEXT NOT NULL, PRIMARY KEY (kind, stream, state_version, version))",
            $by_key,
            ";
             CREATE TABLE trunkline_projection (name TEXT NOT NULL, generation BIGINT NOT NULL,
               version BIGINT NOT NULL, position BIGINT NOT NULL, live BIGINT NOT NULL,
               tables TEXT NOT NULL, error TEXT, changed_at BIGINT NOT NULL,
               PRIMARY KEY (name, generation));
             CREATE UNIQUE INDEX trunkline_projection_by_use ON trunkline_projection (name, live);"
        )
    };
}

macro_rules! alert_table {
    ($serial:literal) => {
        concat!(
            "CREATE TABLE trunkline_alert (seq ",
            $serial,
            ", alert TEXT NOT NULL, about TEXT NOT NULL, subject TEXT NOT NULL,
               correlation_id TEXT NOT NULL, told TEXT NOT NULL, made_at BIGINT NOT NULL);"
        )
    };
}

const SQLITE: &str = tables!(
    "INTEGER PRIMARY KEY AUTOINCREMENT",
    "BLOB",
    " WITHOUT ROWID"
);
const POSTGRES: &str = tables!(
    "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
    "BYTEA",
    ""
);
const SQLITE_TRAIL: &str = trail_tables!(
    "INTEGER PRIMARY KEY AUTOINCREMENT",
    "BLOB",
    " WITHOUT ROWID"
);
const POSTGRES_TRAIL: &str = trail_tables!(
    "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
    "BYTEA",
    ""
);
const SQLITE_SAGA: &str = saga_tables!("INTEGER PRIMARY KEY", "BLOB", " WITHOUT ROWID");
const POSTGRES_SAGA: &str = saga_tables!(
    "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
    "BYTEA",
    ""
);
const SQLITE_SOURCING: &str =
    sourcing_tables!("INTEGER PRIMARY KEY AUTOINCREMENT", " WITHOUT ROWID");
const POSTGRES_SOURCING: &str =
    sourcing_tables!("BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY", "");
const SQLITE_ALERT: &str = alert_table!("INTEGER PRIMARY KEY AUTOINCREMENT");
const POSTGRES_ALERT: &str = alert_table!("BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY");
