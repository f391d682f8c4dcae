//! `file-log`: each request as a line of JSON in a file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::task::spawn_blocking;
use trunkline_core::Error;

use super::log::{Log, no_lua};
use super::queue::{self, Sink};
use super::{Making, Mistake, Plugin, mistake, settings};

/// The most lines of one write.
const LINES_MAX: usize = 256;
/// How long the first line of a write waits for others, in seconds.
const LINGER_SECONDS: f64 = 0.05;
/// A write that fails is tried again for so many seconds.
const RETRY_SECONDS: f64 = 10.0;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    path: PathBuf,
    reopen: bool,
    custom_fields_by_lua: Option<BTreeMap<String, String>>,
}

struct Lines {
    path: PathBuf,
    /// The file is opened for each write, so that it can be moved away.
    reopens: bool,
    file: Arc<Mutex<Option<File>>>,
}

pub(super) fn make(config: Value, making: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    no_lua(settings.custom_fields_by_lua.as_ref())?;
    if settings.path.as_os_str().is_empty() {
        return Err(mistake("path", "expected the path of a file"));
    }
    let policy = queue::Settings {
        max_batch_size: LINES_MAX,
        max_coalescing_delay: LINGER_SECONDS,
        max_retry_time: RETRY_SECONDS,
        ..queue::Settings::default()
    };
    let lines = Lines {
        path: settings.path,
        reopens: settings.reopen,
        file: Arc::default(),
    };
    let policy = policy.check()?;
    Ok(Arc::new(Log::new("file-log", policy, lines, making)))
}

impl Sink<String> for Lines {
    fn send<'a>(&'a self, batch: &'a [String]) -> BoxFuture<'a, Result<(), Error>> {
        let mut text = batch.join("\n");
        text.push('\n');
        let (path, reopens, file) = (self.path.clone(), self.reopens, self.file.clone());
        Box::pin(async move {
            let written = spawn_blocking(move || write(&path, reopens, &file, &text)).await;
            let written = written.unwrap_or_else(|error| Err(std::io::Error::other(error)));
            written.map_err(|error| {
                Error::unavailable("log_unwritten", "the log file can't be written")
                    .with("path", self.path.display())
                    .with_source(error)
            })
        })
    }
}

fn write(
    path: &PathBuf,
    reopens: bool,
    file: &Mutex<Option<File>>,
    text: &str,
) -> std::io::Result<()> {
    let mut file = file.lock();
    if reopens || file.is_none() {
        *file = Some(OpenOptions::new().append(true).create(true).open(path)?);
    }
    let written = file
        .as_mut()
        .map_or(Ok(()), |file| file.write_all(text.as_bytes()));
    if written.is_err() {
        *file = None;
    }
    written
}
