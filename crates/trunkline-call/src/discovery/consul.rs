//! Consul, by the HTTP API of its agent.
//!
//! Watching asks for the healthy instances with a query that waits at the agent until something changed. Registering
//! makes a service with a check of a time to live, which is passed again and again; when that ends, the agent calls it
//! critical and no caller gets it any more.
//!
//! # Source
//! Consul's documentation: *Health HTTP Endpoint*, *Service - Agent HTTP API*, *Check - Agent HTTP API*,
//! *Blocking Queries*.

mod http;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, StatusCode};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use trunkline_core::{Error, Result};

use self::http::Agent;
use super::url::{Url, is_plain, millis, wrong};
use super::{Discovery, HEARTBEAT, Instance, Registry, lease_of, renewal_of};

/// How long the agent may let a query wait; it adds up to a sixteenth of that.
const WAIT: Duration = Duration::from_secs(30);
/// How long an answer may take that does not wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Queries don't follow each other faster than this, however fast the agent answers.
const QUERIES_APART: Duration = Duration::from_millis(250);
/// A service whose check was critical for so long is removed by the agent; it takes no shorter time.
const FORGOTTEN_AFTER: &str = "1m";
/// How many services of this process a [`Consul`] can have registered.
const REGISTERED_MAX: usize = 1_024;

/// A Consul agent. Cheap to clone.
///
/// # Guarantees
/// Only instances all of whose checks pass are listed. An index that steps back or is none starts the watch anew, so
/// no change is missed after the servers' state was restored. Answers beyond 4 MiB are refused.
#[derive(Clone)]
pub struct Consul(Arc<Inner>);

struct Inner {
    agent: Agent,
    /// The name at Consul, where it is another than the service's.
    name: Option<String>,
    /// Narrows the list, `&dc=...&tag=...`.
    filter: String,
    heartbeat: Duration,
    /// What was registered by us and may still be.
    registered: Mutex<HashSet<String>>,
}

impl Consul {
    /// Reads a URL such as `consul://127.0.0.1:8500/inventory-service?token=...`.
    ///
    /// # Shape
    /// The port (8500) may be left out, and so may the name: then it is the service's own. Parameters: `token=`, the
    /// ACL token; `dc=` and `tag=`, of which only those are listed; `heartbeat_ms=` (30,000, from 4,000 on), after
    /// which an instance that died is in no list any more.
    ///
    /// # Errors
    /// `InvalidInput` that says what was expected.
    pub fn from_url(url: &str) -> Result<Self> {
        let expected = "expected consul://host:port/name";
        let parts = Url::parse(url).filter(|parts| parts.scheme == "consul");
        // Not the URL: it may hold a token.
        let parts = parts.ok_or_else(|| wrong(expected, ""))?;
        let agent = match parts.place.rsplit_once(':') {
            Some((_, port)) if !port.contains(']') => {
                Instance::from_url(&format!("http://{}", parts.place))
            }
            _ => Instance::at(parts.place, 8500),
        };
        let host = parts.place.rsplit('@').next().unwrap_or_default();
        let agent = agent.map_err(|_| wrong(expected, host))?;
        let name = Some(parts.path).filter(|name| !name.is_empty());
        if let Some(name) = name.filter(|name| !is_plain(name)) {
            return Err(wrong(
                "expected a plain name after consul://host:port/",
                name,
            ));
        }
        let (mut token, mut filter, mut heartbeat) = (None, String::new(), HEARTBEAT);
        for (key, value) in parts.parameters() {
            match key {
                "token" if is_plain(value) => token = Some(value),
                "token" => return Err(wrong("expected `token` to be an ACL token", "")),
                "dc" | "tag" if is_plain(value) => filter.push_str(&format!("&{key}={value}")),
                "dc" | "tag" => {
                    return Err(wrong(format!("expected `{key}` to be a plain name"), value));
                }
                "heartbeat_ms" => heartbeat = millis(key, value, 4_000)?,
                _ => return Err(wrong("expected one of token, dc, tag, heartbeat_ms", key)),
            }
        }
        Ok(Self(Arc::new(Inner {
            agent: Agent::new(agent.authority, token)?,
            name: name.map(str::to_owned),
            filter,
            heartbeat,
            registered: Mutex::default(),
        })))
    }
}

/// Where a watch is.
struct Watch {
    inner: Arc<Inner>,
    path: String,
    index: u64,
    not_before: Instant,
}

impl Watch {
    async fn next(mut self) -> Result<Option<(Vec<Instance>, Self)>> {
        sleep_until(self.not_before).await;
        let seconds = WAIT.as_secs();
        let (path, within) = if self.index == 0 {
            (self.path.clone(), ANSWER_WITHIN)
        } else {
            let path = format!("{}&index={}&wait={seconds}s", self.path, self.index);
            (path, WAIT + WAIT / 16 + ANSWER_WITHIN)
        };
        let answer = self
            .inner
            .agent
            .ask(Method::GET, &path, None, within)
            .await?;
        answer.ok()?;
        let list = wire::instances(&answer.body)?;
        let (index, pause) = match answer.index {
            // Without an index nothing can be waited for.
            None | Some(0) => (0, QUERIES_APART * 4),
            Some(index) if index < self.index => (0, QUERIES_APART),
            Some(index) => (index, QUERIES_APART),
        };
        self.index = index;
        self.not_before = Instant::now() + pause;
        Ok(Some((list, self)))
    }
}

impl Inner {
    fn name_of<'a>(&'a self, service: &'a str) -> Result<&'a str> {
        let name = self.name.as_deref().unwrap_or(service);
        let text = "expected a service's name of letters, digits, - . _ and ~";
        is_plain(name)
            .then_some(name)
            .ok_or_else(|| wrong(text, name))
    }

    /// Registers it anew: with its check, which passes from the start.
    async fn register(&self, id: &str, name: &str, instance: &Instance) -> Result<()> {
        let body = wire::registration(
            id,
            name,
            instance,
            lease_of(self.heartbeat),
            FORGOTTEN_AFTER,
        )?;
        let path = "/v1/agent/service/register";
        let answer = self
            .agent
            .ask(Method::PUT, path, Some(body), ANSWER_WITHIN)
            .await?;
        answer.ok()?;
        let mut registered = self.registered.lock();
        if registered.len() < REGISTERED_MAX {
            registered.insert(id.to_owned());
        }
        Ok(())
    }

    async fn announce(&self, service: &str, instance: &Instance) -> Result<Duration> {
        let name = self.name_of(service)?;
        let id = id_of(name, instance);
        if !self.registered.lock().contains(&id) {
            self.register(&id, name, instance).await?;
        }
        let word = if instance.healthy { "pass" } else { "fail" };
        let path = format!("/v1/agent/check/{word}/service:{id}");
        let answer = self
            .agent
            .ask(Method::PUT, &path, None, ANSWER_WITHIN)
            .await?;
        if let Err(error) = answer.ok() {
            // An agent that was restarted without its data does not know it. Older ones say so with 500.
            self.registered.lock().remove(&id);
            let is_unknown = matches!(
                answer.status,
                StatusCode::NOT_FOUND | StatusCode::INTERNAL_SERVER_ERROR
            );
            if !is_unknown {
                return Err(error);
            }
            self.register(&id, name, instance).await?;
            let again = self
                .agent
                .ask(Method::PUT, &path, None, ANSWER_WITHIN)
                .await?;
            again.ok()?;
        }
        Ok(renewal_of(self.heartbeat))
    }

    async fn withdraw(&self, service: &str, instance: &Instance) -> Result<()> {
        let id = id_of(self.name_of(service)?, instance);
        self.registered.lock().remove(&id);
        let path = format!("/v1/agent/service/deregister/{id}");
        let answer = self
            .agent
            .ask(Method::PUT, &path, None, ANSWER_WITHIN)
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        answer.ok()
    }
}

/// The id of an instance at its agent: the same again after a restart, so that it replaces what it was.
fn id_of(name: &str, instance: &Instance) -> String {
    let host = instance.host().replace(':', "_");
    format!("{name}-{host}-{}", instance.port())
}

impl Discovery for Consul {
    fn watch(&self, service: &str) -> BoxStream<'static, Result<Vec<Instance>>> {
        let inner = self.0.clone();
        let path = inner
            .name_of(service)
            .map(|name| format!("/v1/health/service/{name}?passing=true{}", inner.filter));
        match path {
            Err(error) => stream::iter([Err(error)]).boxed(),
            Ok(path) => {
                let watch = Watch {
                    inner,
                    path,
                    index: 0,
                    not_before: Instant::now(),
                };
                stream::try_unfold(watch, Watch::next).boxed()
            }
        }
    }
}

impl Registry for Consul {
    fn announce<'a>(
        &'a self,
        service: &'a str,
        instance: &'a Instance,
    ) -> BoxFuture<'a, Result<Duration>> {
        Box::pin(self.0.announce(service, instance))
    }

    fn withdraw<'a>(
        &'a self,
        service: &'a str,
        instance: &'a Instance,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.0.withdraw(service, instance))
    }
}

/// What the agent says that it can't or won't do.
#[cold]
fn refused(status: StatusCode, body: &[u8]) -> Error {
    let said: String = String::from_utf8_lossy(body).chars().take(200).collect();
    let error = match status {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Error::new(
            trunkline_core::ErrorKind::PermissionDenied,
            "registry_refused",
            "the registry's token may not do this",
        ),
        _ => Error::unavailable("registry_refused", "the registry can't answer"),
    };
    error
        .with("status", status.as_u16())
        .with("said", said.trim())
}

impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consul")
            .field("agent", &self.0.agent.authority())
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}
