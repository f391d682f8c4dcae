//! Health: checks with a bound, run side by side.

use std::collections::BTreeMap;
use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join, join_all};
use jiff::Timestamp;
use parking_lot::RwLock;
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use trunkline_core::{ByteString, Env, Result, report};

/// How long one check may take.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

/// Tells whether something that a service stands on is well.
pub trait Check: Send + Sync + 'static {
    /// Checks it; the error says what is wrong.
    fn check(&self) -> BoxFuture<'_, Result<()>>;

    /// What there is to know beside well or not, such as counts, as JSON. Nothing by default.
    fn details(&self) -> BoxFuture<'_, Option<Value>> {
        Box::pin(ready(None))
    }
}

impl<F> Check for F
where
    F: Fn() -> BoxFuture<'static, Result<()>> + Send + Sync + 'static,
{
    fn check(&self) -> BoxFuture<'_, Result<()>> {
        self()
    }
}

/// The checks of one service. Cheap to clone.
#[derive(Clone)]
pub struct Health {
    service: ByteString,
    version: ByteString,
    env: Env,
    checks: Arc<RwLock<BTreeMap<ByteString, Arc<dyn Check>>>>,
}

/// How a service is, in the form that the storefront seed prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// `healthy` or `unhealthy`.
    pub status: &'static str,
    /// When it was checked.
    pub timestamp: Timestamp,
    /// The service.
    pub service: ByteString,
    /// Its version.
    pub version: ByteString,
    /// How long the answer took, in microseconds.
    pub latency_us: u64,
    /// Each check: `ok`, or what is wrong.
    pub checks: BTreeMap<ByteString, String>,
    /// What there is to know beside that, of the checks that tell more.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<ByteString, Value>,
}

impl HealthReport {
    /// Whether every check is ok.
    pub fn is_healthy(&self) -> bool {
        self.checks.values().all(|said| said == "ok")
    }
}

impl Health {
    /// A service without checks: healthy.
    pub fn new(service: impl Into<ByteString>, version: impl Into<ByteString>, env: Env) -> Self {
        let (service, version) = (service.into(), version.into());
        Self {
            service,
            version,
            env,
            checks: Arc::default(),
        }
    }

    /// The service.
    pub fn service(&self) -> &ByteString {
        &self.service
    }

    /// Adds a check, or replaces the one of that name.
    pub fn register(&self, name: impl Into<ByteString>, check: Arc<dyn Check>) {
        self.checks.write().insert(name.into(), check);
    }

    /// Lets go of all checks, and of what they look at: the service is taken down.
    pub fn close(&self) {
        let checks = std::mem::take(&mut *self.checks.write());
        drop(checks);
    }

    /// Runs all checks side by side, each for at most 2 s.
    pub async fn report(&self) -> HealthReport {
        let began = Instant::now();
        let checks: Vec<_> = self
            .checks
            .read()
            .iter()
            .map(|(name, check)| (name.clone(), check.clone()))
            .collect();
        let said = join_all(checks.into_iter().map(|(name, check)| async move {
            let (said, details) = join(
                timeout(CHECK_WITHIN, check.check()),
                timeout(CHECK_WITHIN, check.details()),
            )
            .await;
            let said = match said {
                Ok(Ok(())) => "ok".to_owned(),
                Ok(Err(error)) => report(&error).to_string(),
                Err(_) => format!("no answer within {CHECK_WITHIN:?}"),
            };
            (name, said, details.ok().flatten())
        }));
        let (mut checks, mut details) = (BTreeMap::new(), BTreeMap::new());
        for (name, said, more) in said.await {
            details.extend(more.map(|more| (name.clone(), more)));
            checks.insert(name, said);
        }
        let healthy = checks.values().all(|said| said == "ok");
        HealthReport {
            status: if healthy { "healthy" } else { "unhealthy" },
            timestamp: self.env.now(),
            service: self.service.clone(),
            version: self.version.clone(),
            latency_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
            checks,
            details,
        }
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_core::Error;

    #[tokio::test(start_paused = true)]
    async fn a_check_that_fails_or_hangs_is_named() {
        let health = Health::new("order-service", "1.0.0", Env::system());
        let ok = || -> BoxFuture<'static, Result<()>> { Box::pin(async { Ok(()) }) };
        let bad = || -> BoxFuture<'static, Result<()>> {
            Box::pin(async { Err(Error::unavailable("down", "the server is gone")) })
        };
        let hangs = || -> BoxFuture<'static, Result<()>> { Box::pin(std::future::pending()) };
        health.register("database", Arc::new(ok));
        assert!(health.report().await.is_healthy());
        assert!(health.report().await.details.is_empty());
        health.register("eventBus", Arc::new(bad));
        health.register("externalServices", Arc::new(hangs));
        let report = health.report().await;
        assert_eq!(report.status, "unhealthy");
        assert_eq!(report.checks["database"], "ok");
        assert_eq!(report.checks["eventBus"], "the server is gone");
        assert_eq!(report.checks["externalServices"], "no answer within 2s");
        assert_eq!(report.latency_us, 2_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_may_tell_more_and_hanging_at_that_changes_nothing() {
        struct Counts(bool);
        impl Check for Counts {
            fn check(&self) -> BoxFuture<'_, Result<()>> {
                Box::pin(async { Ok(()) })
            }

            fn details(&self) -> BoxFuture<'_, Option<Value>> {
                Box::pin(async {
                    if self.0 {
                        std::future::pending::<()>().await;
                    }
                    Some(serde_json::json!({ "parked": 2 }))
                })
            }
        }
        let health = Health::new("order-service", "1.0.0", Env::system());
        health.register("sagas", Arc::new(Counts(false)));
        health.register("slow", Arc::new(Counts(true)));
        let report = health.report().await;
        assert!(report.is_healthy());
        assert_eq!(report.details["sagas"]["parked"], 2);
        assert!(!report.details.contains_key("slow"));
    }
}
