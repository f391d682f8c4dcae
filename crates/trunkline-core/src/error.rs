//! One error for every port: what went wrong, where, and whether trying again is safe.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The result of everything that can fail at a port.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is; each kind has one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input is wrong and will stay wrong (400, or 422 where the form is right and the content is not).
    InvalidInput,
    /// No valid proof of who the caller is (401).
    Unauthenticated,
    /// The caller is known and may not do this, or the topology does not declare it (403).
    PermissionDenied,
    /// The thing asked for does not exist (404).
    NotFound,
    /// The state of the thing forbids it now (409).
    Conflict,
    /// The input is larger than its bound (413).
    TooLarge,
    /// A limit on rate or concurrency was met (429).
    Overloaded,
    /// The other side can't be reached or is shutting down (503).
    Unavailable,
    /// The time was up; the effect may have happened (504).
    DeadlineExceeded,
    /// Stored or received bytes are not what was written (500).
    Corrupt,
    /// What was asked for is not offered here (501).
    Unsupported,
    /// A defect or an unforeseen failure (500).
    Internal,
}

/// Whether the same request may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// It will fail again: do not retry.
    Permanent,
    /// It had no effect: retry after a pause.
    Transient,
    /// It may have had its effect: retry only what is idempotent.
    Unknown,
}

impl Retry {
    /// Its name: `permanent`, `transient` or `unknown`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Transient => "transient",
            Self::Unknown => "unknown",
        }
    }

    /// The class of this name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Permanent, Self::Transient, Self::Unknown];
        all.into_iter().find(|retry| retry.name() == name)
    }
}

/// An error at a port. `Display` prints the kind, the operation and the message, never the source;
/// [`report`] prints the whole chain.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    retry_after: Option<Duration>,
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of a kind, with a stable `code` (snake case, for programs) and a message (for people:
    /// what was expected and what was found).
    pub fn new(
        kind: ErrorKind,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let retry = match kind {
            ErrorKind::Unavailable | ErrorKind::Overloaded => Retry::Transient,
            ErrorKind::DeadlineExceeded | ErrorKind::Internal => Retry::Unknown,
            _ => Retry::Permanent,
        };
        Self(Box::new(Inner {
            kind,
            retry,
            retry_after: None,
            code: code.into(),
            message: message.into(),
            context: Vec::new(),
            source: None,
        }))
    }

    /// The input is wrong.
    pub fn invalid(
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(ErrorKind::InvalidInput, code, message)
    }

    /// The thing asked for does not exist.
    pub fn not_found(
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(ErrorKind::NotFound, code, message)
    }

    /// The state of the thing forbids it now.
    pub fn conflict(
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(ErrorKind::Conflict, code, message)
    }

    /// The other side can't be reached; nothing happened.
    pub fn unavailable(
        code: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(ErrorKind::Unavailable, code, message)
    }

    /// A defect or an unforeseen failure.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Internal, "internal", message)
    }

    /// Sets the retry class where the kind's own does not fit.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Says when trying again begins to make sense: `Retry-After` on the wire.
    #[must_use]
    pub fn with_retry_after(mut self, pause: Duration) -> Self {
        self.0.retry_after = Some(pause);
        self
    }

    /// Adds a fact: which topic, which file, which line.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Names the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same request may be tried again.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// How long to wait before trying again makes sense, if whoever failed said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The stable code, in snake case.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// The message for people, without facts and source.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The facts that were added, in order.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(k, v)| (*k, v.as_str()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut separator = " (";
        for (key, value) in &self.0.context {
            write!(f, "{separator}{key}: {value}")?;
            separator = ", ";
        }
        if separator == ", " {
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}/{:?} {}: {}",
            self.0.kind,
            self.0.retry,
            self.0.code,
            report(self)
        )
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

/// Formats an error with the chain of its sources, each once: `what: why: why`.
pub fn report(error: &(dyn StdError + 'static)) -> impl fmt::Display {
    struct Report<'a>(&'a (dyn StdError + 'static));
    impl fmt::Display for Report<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0)?;
            let mut next = self.0.source();
            while let Some(error) = next {
                write!(f, ": {error}")?;
                next = error.source();
            }
            Ok(())
        }
    }
    Report(error)
}

#[cfg(test)]
mod tests;
