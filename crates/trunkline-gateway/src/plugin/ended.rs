//! How a request ended, for plugins that tell of it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, Uri};

use super::{Exchange, Plugin};

/// How a request ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ended<'a> {
    /// The request as it went on, and what is known about it.
    pub exchange: &'a Exchange,
    /// The method that the client sent.
    pub method: &'a Method,
    /// The target that the client sent.
    pub uri: &'a Uri,
    /// What the client was answered.
    pub status: StatusCode,
    /// The headers of that answer.
    pub headers: &'a HeaderMap,
    /// What the service answered, if it was asked and did.
    pub service_status: Option<StatusCode>,
    /// How long the service took to answer, if it was asked.
    pub service_took: Option<Duration>,
    /// How long all of it took.
    pub took: Duration,
    /// How many bytes of the request's body came.
    pub bytes_in: u64,
    /// How many bytes of the answer's body were sent.
    pub bytes_out: u64,
    /// Why the answer is not whole, if it is not.
    pub cut_off: Option<&'a str>,
}

/// Those who want to hear how a request ends, and what they are told.
pub(crate) struct Listeners {
    pub(crate) plugins: Vec<Arc<dyn Plugin>>,
    pub(crate) exchange: Box<Exchange>,
    pub(crate) headers: HeaderMap,
    pub(crate) service_status: Option<StatusCode>,
    pub(crate) service_took: Option<Duration>,
}

impl Listeners {
    /// Tells all of them, each whatever becomes of the one before: this is also where an answer is let go.
    pub(crate) fn tell(&self, ended: &Ended<'_>) {
        for plugin in &self.plugins {
            let told = catch_unwind(AssertUnwindSafe(|| plugin.ended(ended)));
            if told.is_err() {
                tracing::error!(service = "gateway", ?plugin, "a plugin panicked");
            }
        }
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.plugins).finish()
    }
}
