//! A saga, as its author declares it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytestring::ByteString;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use trunkline_core::{Error, ErrorKind, Result};

use crate::host::Host;
use crate::{Data, Saga};

/// A saga by orchestration: a name and its function, in each version that instances may still have begun with.
///
/// A new instance gets the highest version. One that runs goes on with the version that it began with; when that is not here
/// any more it is parked, and a person moves it to another.
pub struct Definition<H: Host> {
    pub(crate) name: ByteString,
    pub(crate) versions: BTreeMap<u32, Function<H>>,
    pub(crate) failed: Option<Failed<H>>,
}

/// What is done when an instance has come to nothing.
pub(crate) type Failed<H> = Arc<
    dyn Fn(<H as Host>::Work, &Data, Error) -> Result<BoxFuture<'static, Result<()>>> + Send + Sync,
>;

pub(crate) type Function<H> =
    Arc<dyn Fn(Saga<H>, Data) -> BoxFuture<'static, Result<Data, Ended>> + Send + Sync>;

/// Why a function did not return a value.
pub(crate) enum Ended {
    /// It failed: what was done is undone.
    Failed(Error),
    /// What it was given no longer decodes, or what it gives can't be written: it is parked.
    Unreadable(Error),
}

impl<H: Host> Definition<H> {
    /// A saga of this name, such as `order`: lower-case letters, digits and `-`.
    pub fn named(name: impl Into<ByteString>) -> Self {
        Self {
            name: name.into(),
            versions: BTreeMap::new(),
            failed: None,
        }
    }

    /// Its code in one version, from 1.
    ///
    /// # Guarantees
    /// What the function does outside its operations has to be the same each time, for it runs again from its beginning
    /// whenever an instance is taken up: effects, time and chance belong into steps.
    #[must_use]
    pub fn version<I, O, F, W>(mut self, version: u32, function: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
        F: Fn(Saga<H>, I) -> W + Send + Sync + 'static,
        W: Future<Output = Result<O>> + Send + 'static,
    {
        let function = Arc::new(function);
        let erased: Function<H> = Arc::new(move |saga, input: Data| {
            let function = function.clone();
            Box::pin(async move {
                let input = input.get().map_err(Ended::Unreadable)?;
                let output = function(saga, input).await.map_err(Ended::Failed)?;
                Data::of(&output).map_err(Ended::Unreadable)
            })
        });
        self.versions.insert(version, erased);
        self
    }

    /// What is done last when an instance has failed, was cancelled or revoked, and all that it did is undone: it is given the
    /// input and why. It is retried as a compensation is, and may run twice.
    #[must_use]
    pub fn failed<I, F, W>(mut self, handler: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        F: Fn(H::Work, I, Error) -> W + Send + Sync + 'static,
        W: Future<Output = Result<()>> + Send + 'static,
    {
        self.failed = Some(Arc::new(move |work, input, error| {
            Ok(Box::pin(handler(work, input.get()?, error)))
        }));
        self
    }

    /// Its name.
    pub fn name(&self) -> &ByteString {
        &self.name
    }

    /// The version that a new instance begins with.
    pub(crate) fn newest(&self) -> Result<u32> {
        let newest = self.versions.last_key_value();
        newest.map(|(version, _)| *version).ok_or_else(|| {
            Error::internal("a saga has no version: add .version(1, function)")
                .with("saga", &self.name)
        })
    }

    pub(crate) fn function(&self, version: u32) -> Result<&Function<H>> {
        self.versions.get(&version).ok_or_else(|| {
            let has: Vec<String> = self.versions.keys().map(u32::to_string).collect();
            Error::new(
                ErrorKind::Unsupported,
                "saga_version_missing",
                "this process has no code of the version that the instance began with",
            )
            .with("saga", &self.name)
            .with("version", version)
            .with("has", has.join(", "))
        })
    }
}

impl<H: Host> fmt::Debug for Definition<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Definition")
            .field("name", &self.name)
            .field("versions", &self.versions.keys())
            .finish_non_exhaustive()
    }
}
