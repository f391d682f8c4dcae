//! Where documents come from: a file, or a place outside.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;
use trunkline_core::{Error, report};

use super::document::Document;
use crate::file::parse_value;
use crate::outside::Outside;
use crate::plugin::{Making, Mistake, mistake};
use crate::workers::Workers;

/// A larger document is refused.
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long fetching it may take.
const FETCH_WITHIN: Duration = Duration::from_secs(10);
/// A document is taken as it is for so long.
const FRESH_FOR: Duration = Duration::from_secs(300);
/// The least time between two fetches.
const PAUSE: Duration = Duration::from_secs(10);

/// The document of a file, as JSON or YAML.
pub(super) fn read(path: &str) -> Result<Document, Mistake> {
    let wrong = |why: String| mistake("openapi", format!("expected an OpenAPI document: {why}"));
    let length = std::fs::metadata(path).map_err(|error| wrong(format!("{path}: {error}")))?;
    if length.len() > BYTES_MAX as u64 {
        return Err(wrong(format!("{path}: more than {BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("{path}: {error}")))?;
    let document = parse_value(&text).and_then(Document::new);
    document.map_err(|why| wrong(format!("{path}: {why}")))
}

/// A document that somebody else publishes.
///
/// # Guarantees
/// A request waits for it only until it has come once. Then it is fetched anew every 5 minutes beside the requests, and the last
/// one that could be used holds.
#[derive(Debug, Clone)]
pub(super) struct Remote(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    outside: Outside,
    known: ArcSwapOption<(Arc<Document>, Instant)>,
    tried_at: Mutex<Option<Instant>>,
    fetching: Arc<tokio::sync::Mutex<()>>,
    workers: Workers,
}

impl Remote {
    pub(super) fn new(url: &str, making: &Making<'_>) -> Result<Self, Mistake> {
        let outside = Outside::new(url, FETCH_WITHIN, PAUSE);
        Ok(Self(Arc::new(Inner {
            outside: outside.map_err(|expected| mistake("openapi", expected))?,
            known: ArcSwapOption::empty(),
            tried_at: Mutex::new(None),
            fetching: Arc::default(),
            workers: making.workers.clone(),
        })))
    }

    /// The document.
    ///
    /// # Errors
    /// `Unavailable` (`openapi_unavailable`) while it has not come once.
    pub(super) async fn document(&self) -> Result<Arc<Document>, Error> {
        let inner = &self.0;
        if let Some(known) = &*inner.known.load() {
            let (document, at) = &**known;
            if at.elapsed() >= FRESH_FOR && inner.may_fetch() {
                self.refresh_beside();
            }
            return Ok(document.clone());
        }
        let turn = inner.fetching.lock().await;
        if inner.known.load().is_none() && inner.may_fetch() {
            inner.fetch().await;
        }
        drop(turn);
        let known = inner.known.load_full();
        known.map(|known| known.0.clone()).ok_or_else(|| {
            let text = "what requests are held against can't be had from where it is published";
            Error::unavailable("openapi_unavailable", text)
        })
    }

    fn refresh_beside(&self) {
        let Ok(turn) = self.0.fetching.clone().try_lock_owned() else {
            return;
        };
        // Only as long as somebody has it: the task holds what it needs, and ends.
        let inner = Arc::downgrade(&self.0);
        self.0.workers.spawn(async move {
            if let Some(inner) = inner.upgrade() {
                inner.fetch().await;
            }
            drop(turn);
        });
    }
}

impl Inner {
    fn may_fetch(&self) -> bool {
        self.tried_at.lock().is_none_or(|at| at.elapsed() >= PAUSE)
    }

    async fn fetch(&self) {
        *self.tried_at.lock() = Some(Instant::now());
        let document = match self.outside.get(BYTES_MAX).await {
            Ok(response) => compiled(response.body()),
            Err(error) => Err(report(&error).to_string()),
        };
        match document {
            Ok(document) => {
                let known = (Arc::new(document), Instant::now());
                self.known.store(Some(Arc::new(known)));
            }
            Err(why) => tracing::warn!(why, "an OpenAPI document can't be used"),
        }
    }
}

fn compiled(bytes: &[u8]) -> Result<Document, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let document: Value = parse_value(text)?;
    Document::new(document)
}
