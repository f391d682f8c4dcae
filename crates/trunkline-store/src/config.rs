//! Which store, and its bounds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use trunkline_core::{Error, Result};

use crate::SyncProbe;

/// How a store is opened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StoreConfig {
    /// Where it is; see [`crate::Store::open`].
    pub url: String,
    /// The service whose store it is; `{service}` in the URL stands for it.
    pub service: String,
    /// How long the inbox remembers an event: 7 days. A duplicate that comes later is handled again.
    pub inbox_window: Duration,
    /// How long an answer to an idempotent request is kept: 24 hours.
    pub idempotency_window: Duration,
    /// How long a running idempotent request holds its key without an answer: 15 seconds.
    pub idempotency_lease: Duration,
    /// How long a caller waits for a connection before `Overloaded`: 10 seconds.
    pub acquire_timeout: Duration,
    /// Whether alerts of dead letters and parked sagas are written down, for somebody who sends them ([`crate::Alerts`]): no.
    pub alerts: bool,
    /// What stands before each sync of a store in a file: none, but in tests.
    pub sync_probe: Option<Arc<dyn SyncProbe>>,
}

impl StoreConfig {
    /// The defaults for a URL and a service.
    pub fn new(url: impl Into<String>, service: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            service: service.into(),
            inbox_window: Duration::from_secs(7 * 24 * 3600),
            idempotency_window: Duration::from_secs(24 * 3600),
            idempotency_lease: Duration::from_secs(15),
            acquire_timeout: Duration::from_secs(10),
            alerts: false,
            sync_probe: None,
        }
    }

    pub(crate) fn place(&self) -> Result<Place> {
        let url = self.url.replace("{service}", &self.service);
        if let Some(rest) = url.strip_prefix("sqlite:") {
            return sqlite_place(&url, rest);
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return postgres_place(&url, &self.service);
        }
        Err(bad_url(
            "expected sqlite:PATH or postgres://USER@HOST/DATABASE?schema=NAME",
        ))
    }
}

/// A URL, understood.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// A file, and its own temporary folder if it is one of those.
    Sqlite { path: PathBuf },
    /// A file in a folder of its own that goes away with the store.
    Temporary,
    /// A schema on a server.
    Postgres {
        options: AnyConnectOptions,
        schema: String,
        pool_max: u32,
    },
}

fn sqlite_place(url: &str, rest: &str) -> Result<Place> {
    let path = rest.strip_prefix("//").unwrap_or(rest);
    if path == ":memory:" {
        return Ok(Place::Temporary);
    }
    if path.is_empty() || path.contains('?') {
        return Err(bad_url("expected sqlite:PATH with no parameters").with("url", url));
    }
    Ok(Place::Sqlite {
        path: PathBuf::from(path),
    })
}

fn postgres_place(url: &str, service: &str) -> Result<Place> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut schema = service.replace('-', "_");
    let mut pool_max = 4;
    let mut others = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("schema", name)) => schema = name.to_owned(),
            Some(("pool", count)) => {
                pool_max = count
                    .parse()
                    .ok()
                    .filter(|count| (1..=1000).contains(count))
                    .ok_or_else(|| {
                        bad_url("expected pool to be a number from 1 to 1000").with("pool", count)
                    })?;
            }
            _ => others.push(pair),
        }
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if schema.is_empty() || schema.len() > 63 || !schema.chars().all(fits) {
        return Err(
            bad_url("expected schema to be 1 to 63 ASCII letters, digits, - and _")
                .with("schema", schema),
        );
    }
    let separator = if others.is_empty() { "" } else { "?" };
    let options = format!("{base}{separator}{}", others.join("&"))
        .parse()
        // The source would show the password.
        .map_err(|_: sqlx::Error| bad_url("expected postgres://USER@HOST/DATABASE?schema=NAME"))?;
    Ok(Place::Postgres {
        options,
        schema,
        pool_max,
    })
}

fn bad_url(expected: &'static str) -> Error {
    Error::invalid("store_url_invalid", expected)
}
