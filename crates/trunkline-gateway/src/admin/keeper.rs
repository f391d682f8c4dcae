//! Keeps a gateway, what it was told and a file in step: a change of one is a change of all, or of none.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use trunkline_core::{Env, Error, Result, report};

use super::document::Document;
use super::kinds::Kind;
use crate::file::{Node, read};
use crate::{Config, Gateway};

/// How often the file is looked at. A change that is seen twice the same is taken.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// One that is missing so often in a row is not being replaced, but gone.
const MISSED_MAX: u8 = 3;

/// A gateway whose configuration is a file, or is sent to it. Cheap to clone.
///
/// # Guarantees
/// A configuration that is wrong changes nothing. Where changes are written back, one that can't be written is taken back.
/// The file is replaced by a rename: whoever reads it sees all of a change or nothing of it.
#[derive(Clone)]
pub struct Keeper {
    gateway: Gateway,
    file: Option<Arc<PathBuf>>,
    writes: bool,
    env: Env,
    state: Arc<Mutex<State>>,
}

struct State {
    document: Document,
    text: String,
    /// The text that the file was last seen with, if that is not what the gateway goes by, and why; no text, if it can't be
    /// read.
    refused: Option<(Option<String>, String)>,
    changes: u64,
}

impl Keeper {
    /// Keeps a gateway that was made from this text.
    pub fn new(gateway: Gateway, text: impl Into<String>, env: Env) -> Self {
        let text = text.into();
        let state = State {
            document: document_of(&text, &env),
            text,
            refused: None,
            changes: 0,
        };
        Self {
            gateway,
            file: None,
            writes: false,
            env,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The same with a file that [`Keeper::follow`] looks at; `writes`: changes are written back to it.
    #[must_use]
    pub fn with_file(self, file: impl Into<PathBuf>, writes: bool) -> Self {
        Self {
            file: Some(Arc::new(file.into())),
            writes,
            ..self
        }
    }

    pub(super) fn env(&self) -> &Env {
        &self.env
    }

    /// Looks at the file for as long as it is polled, and takes what it says. What is wrong is told in the log, once.
    pub async fn follow(&self) {
        let Some(file) = self.file.clone() else {
            return std::future::pending().await;
        };
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut before, mut taken, mut missed) = (None, None, 0_u8);
        loop {
            ticks.tick().await;
            let now = match stamp(&file).await {
                Ok(now) => now,
                Err(error) => {
                    // At first it is perhaps being replaced.
                    missed = missed.saturating_add(1);
                    if missed == MISSED_MAX {
                        taken = None;
                        self.unread(&file, &error).await;
                    }
                    continue;
                }
            };
            missed = 0;
            // One that is still being written changes between two looks.
            let is_settled = before == Some(now);
            before = Some(now);
            if is_settled && taken != Some(now) {
                taken = Some(now);
                self.look(&file).await;
            }
        }
    }

    async fn look(&self, file: &Path) {
        let text = match tokio::fs::read_to_string(file).await {
            Ok(text) => text,
            Err(error) => {
                self.unread(file, &error).await;
                return;
            }
        };
        let mut state = self.state.lock().await;
        if state.text == text {
            state.refused = None;
            return;
        }
        if state
            .refused
            .as_ref()
            .is_some_and(|(refused, _)| refused.as_ref() == Some(&text))
        {
            return;
        }
        let name = file.display().to_string();
        match self.take(&mut state, text.clone(), Some(&name)).await {
            Ok(()) => tracing::info!(file = name, "the gateway goes by its changed file"),
            Err(error) => {
                tracing::error!(error = %report(&error), "the gateway's changed file is wrong: it goes on as before");
                state.refused = Some((Some(text), error.message().to_owned()));
            }
        }
    }

    /// The file is gone, or nobody may read it: what it said goes on, and that is told.
    async fn unread(&self, file: &Path, error: &io::Error) {
        let file = file.display();
        tracing::error!(%file, %error, "the gateway's file can't be read: it goes on as before");
        let why = format!("{file} can't be read: {error}");
        self.state.lock().await.refused = Some((None, why));
    }

    /// Takes a whole configuration: the text of a file.
    ///
    /// # Errors
    /// `InvalidInput` (`gateway_config_invalid`) with every mistake; `Conflict` (`gateway_config_changed`) if it is
    /// not the one that has this tag; `Unavailable` if it can't be written back.
    pub(super) async fn load(&self, text: String, tag: Option<&str>) -> Result<String> {
        let mut state = self.state.lock().await;
        if tag.is_some_and(|tag| tag != state.tag()) {
            let text = "the configuration has changed since it was read";
            return Err(Error::conflict("gateway_config_changed", text));
        }
        self.commit(&mut state, text, Some("config")).await?;
        Ok(state.tag())
    }

    /// Changes the document, and with it the gateway and the file.
    ///
    /// # Errors
    /// As `change`, and as [`Keeper::load`].
    pub(super) async fn change<T>(
        &self,
        touched: impl FnOnce(&T) -> Option<(Kind, String)>,
        change: impl FnOnce(&mut Document) -> Result<T>,
    ) -> Result<T> {
        let mut state = self.state.lock().await;
        let mut document = state.document.clone();
        let done = change(&mut document)?;
        if document == state.document {
            return Ok(done);
        }
        let rendered = document.render()?;
        let place =
            touched(&done).and_then(|(kind, id)| rendered.place_of(kind, &id).map(str::to_owned));
        let committed = self.commit(&mut state, rendered.text, None).await;
        committed.map_err(|error| of_entity(error, place.as_deref()))?;
        // The ids that entities have here outlive the change.
        state.document = document;
        Ok(done)
    }

    /// The document as it is.
    pub(super) async fn read<T>(&self, read: impl FnOnce(&Document) -> Result<T>) -> Result<T> {
        read(&self.state.lock().await.document)
    }

    /// The text of the whole, and its tag.
    pub(super) async fn text(&self) -> (String, String) {
        let state = self.state.lock().await;
        (state.text.clone(), state.tag())
    }

    /// What is to be known of it.
    pub(super) async fn status(&self) -> Value {
        let state = self.state.lock().await;
        let file = self.file.as_ref().map(|file| file.display().to_string());
        serde_json::json!({
            "configuration": {
                "tag": state.tag(),
                "changes": state.changes,
                "file": file,
                "writes_back": self.writes,
                "refused": state.refused.as_ref().map(|(_, why)| why),
            },
            "server": { "connections": self.gateway.connections() },
        })
    }

    async fn commit(&self, state: &mut State, text: String, name: Option<&str>) -> Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.writes) else {
            return self.take(state, text, name).await;
        };
        let found = tokio::fs::read_to_string(&**file).await;
        let found =
            found.map_err(|error| unwritable("the file can't be read").with_source(error))?;
        if found != state.text {
            let text =
                "the file was changed by somebody else, and the gateway does not go by it yet";
            return Err(Error::conflict("gateway_file_changed", text));
        }
        let before = state.text.clone();
        self.take(state, text, name).await?;
        let Err(error) = write(file, &state.text).await else {
            return Ok(());
        };
        // What is not in the file would be gone after the next start.
        self.take(state, before, None).await?;
        Err(
            unwritable("the change can't be written to the file, and was taken back")
                .with_source(error),
        )
    }

    /// Has the gateway go by a text.
    async fn take(&self, state: &mut State, text: String, name: Option<&str>) -> Result<()> {
        let gateway = self.gateway.clone();
        let name = name.map(str::to_owned);
        let env = self.env.clone();
        let taking = move || {
            let (mut config, problems) = read(name.as_deref().unwrap_or_default(), &text);
            let said = config.source.as_ref().map(|source| source.value());
            if name.is_none() {
                config.source = None;
            }
            if !problems.is_empty() {
                return Err(problems.refusal(config.source.as_deref()));
            }
            gateway.reload(&config)?;
            Ok((text, Document::of(said.unwrap_or_default(), &env)))
        };
        // A large one takes a while, and requests go on meanwhile.
        let taken = tokio::task::spawn_blocking(taking).await;
        let (text, document) = taken.map_err(|error| {
            Error::internal("a configuration was not read").with_source(error)
        })??;
        state.text = text;
        state.document = document;
        state.refused = None;
        state.changes += 1;
        Ok(())
    }
}

impl State {
    /// What tells this configuration from another.
    fn tag(&self) -> String {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(self.text.as_bytes());
        let hex = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
        hex.collect()
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// `InvalidInput` (`gateway_file_unreadable`) for one that can't be read, and as [`Config::parse`]. The text goes with it.
    pub fn open(file: &Path) -> Result<(Self, String)> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|error| {
            Error::invalid("gateway_file_unreadable", format!("{name} can't be read"))
                .with_source(error)
        })?;
        Ok((Self::parse(&name, &text)?, text))
    }
}

fn unwritable(text: &'static str) -> Error {
    Error::unavailable("gateway_file_unwritable", text)
}

fn document_of(text: &str, env: &Env) -> Document {
    let root = Node::parse(text).unwrap_or_else(|_| Node::nothing());
    Document::of(root.value(), env)
}

/// Tells what is wrong with an entity by its own fields.
fn of_entity(error: Error, place: Option<&str>) -> Error {
    let Some(place) = place.filter(|_| error.code() == "gateway_config_invalid") else {
        return error;
    };
    let lines = error.message().lines().skip(1).map(|line| {
        let own = line
            .strip_prefix(place)
            .filter(|rest| rest.starts_with(['.', ':']));
        own.map_or(line, |rest| rest.trim_start_matches(['.', ':', ' ']))
    });
    let lines: Vec<_> = lines.collect();
    Error::invalid("entity_invalid", lines.join("\n"))
}

/// When a file was written, how long it is, and which it is.
type Stamp = (Option<SystemTime>, u64, u64);

async fn stamp(file: &Path) -> io::Result<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let found = tokio::fs::metadata(file).await?;
    Ok((found.modified().ok(), found.len(), found.ino()))
}

/// Writes beside the file, and puts it in its place when it is on the disk.
async fn write(file: &Path, text: &str) -> io::Result<()> {
    let file = tokio::fs::canonicalize(file).await?;
    let text = text.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        use std::io::Write as _;
        let folder = file.parent().unwrap_or_else(|| Path::new("."));
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let beside = folder.join(format!(".{name}.new"));
        let mut new = std::fs::File::create(&beside)?;
        // Whoever could not read the file can't read the next either.
        new.set_permissions(std::fs::metadata(&file)?.permissions())?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        std::fs::rename(&beside, &file)?;
        std::fs::File::open(folder)?.sync_all()
    });
    written
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("file", &self.file)
            .field("writes", &self.writes)
            .finish_non_exhaustive()
    }
}
