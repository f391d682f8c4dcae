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
use crate::beside;
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
/// The file is replaced by a rename: whoever reads it sees all of a change or nothing of it. A change that has begun is made
/// to its end, also where whoever asked for it goes away.
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
        let name = file.display().to_string();
        let text = match tokio::fs::read_to_string(file).await {
            Ok(text) => text,
            Err(error) => {
                self.unread(file, &error).await;
                return;
            }
        };
        let looked = self.work(move |keeper, state| keeper.see(state, text, &name));
        if let Err(error) = looked.await {
            tracing::error!(error = %report(&error), "the gateway's changed file is wrong: it goes on as before");
        }
    }

    /// Takes what the file says now, if that is new.
    fn see(&self, state: &mut State, text: String, name: &str) -> Result<()> {
        if state.text == text {
            state.refused = None;
            return Ok(());
        }
        let refused = state.refused.as_ref();
        if refused.is_some_and(|(refused, _)| refused.as_ref() == Some(&text)) {
            return Ok(());
        }
        match self.take(state, text.clone(), (Some(name), None)) {
            Ok((_, before)) => {
                tracing::info!(file = name, "the gateway goes by its changed file");
                before.release();
                Ok(())
            }
            Err(error) => {
                state.refused = Some((Some(text), error.message().to_owned()));
                Err(error)
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
        let tag = tag.map(str::to_owned);
        let load = move |keeper: &Self, state: &mut State| {
            if tag.is_some_and(|tag| tag != state.tag()) {
                let text = "the configuration has changed since it was read";
                return Err(Error::conflict("gateway_config_changed", text));
            }
            keeper.commit(state, text, (Some("config"), None))?;
            Ok(state.tag())
        };
        self.work(load).await
    }

    /// Changes the document, and with it the gateway and the file.
    ///
    /// # Errors
    /// As `change`, and as [`Keeper::load`].
    pub(super) async fn change<T: Send + 'static>(
        &self,
        touched: impl FnOnce(&T) -> Option<(Kind, String)> + Send + 'static,
        change: impl FnOnce(&mut Document) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let change = move |keeper: &Self, state: &mut State| {
            let mut document = state.document.copy();
            let done = change(&mut document)?;
            if document.is_same(&state.document) {
                document.release();
                return Ok(done);
            }
            let rendered = document.render()?;
            let place = touched(&done);
            let place =
                place.and_then(|(kind, id)| rendered.place_of(kind, &id).map(str::to_owned));
            // The ids that entities have here outlive the change.
            let committed = keeper.commit(state, rendered.text, (None, Some(document)));
            committed.map_err(|error| of_entity(error, place.as_deref()))?;
            Ok(done)
        };
        self.work(change).await
    }

    /// Works on the state beside the requests, for a large one takes a while. It goes to its end, also where nobody waits
    /// for that any more.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &mut State) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut state = self.state.clone().lock_owned().await;
        let keeper = self.clone();
        beside::run(move || work(&keeper, &mut state)).await?
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

    fn commit(&self, state: &mut State, text: String, known: Known<'_>) -> Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.writes) else {
            let (_, before) = self.take(state, text, known)?;
            before.release();
            return Ok(());
        };
        let found = std::fs::read_to_string(&**file);
        let found =
            found.map_err(|error| unwritable("the file can't be read").with_source(error))?;
        if found != state.text {
            let text =
                "the file was changed by somebody else, and the gateway does not go by it yet";
            return Err(Error::conflict("gateway_file_changed", text));
        }
        let (text, document) = self.take(state, text, known)?;
        let Err(error) = write(file, &state.text) else {
            document.release();
            return Ok(());
        };
        // What is not in the file would be gone after the next start.
        self.take(state, text, (None, Some(document)))?;
        Err(
            unwritable("the change can't be written to the file, and was taken back")
                .with_source(error),
        )
    }

    /// Has the gateway go by a text. Gives the text and the document before it.
    fn take(
        &self,
        state: &mut State,
        text: String,
        (name, document): Known<'_>,
    ) -> Result<(String, Document)> {
        let (mut config, problems) = read(name.unwrap_or_default(), &text);
        let source = config.source.clone();
        if name.is_none() {
            config.source = None;
        }
        if !problems.is_empty() {
            return Err(problems.refusal(config.source.as_deref()));
        }
        self.gateway.reload(&config)?;
        let document = document.unwrap_or_else(|| {
            let said = source.as_ref().map(|source| source.value());
            Document::of(said.unwrap_or_default(), &self.env)
        });
        config.source = source;
        config.release();
        state.refused = None;
        state.changes += 1;
        Ok((
            std::mem::replace(&mut state.text, text),
            std::mem::replace(&mut state.document, document),
        ))
    }
}

/// What messages call a text by, and the document that it says where that is known.
type Known<'a> = (Option<&'a str>, Option<Document>);

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
fn write(file: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let file = std::fs::canonicalize(file)?;
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
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("file", &self.file)
            .field("writes", &self.writes)
            .finish_non_exhaustive()
    }
}
