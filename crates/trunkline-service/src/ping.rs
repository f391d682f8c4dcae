//! How other services are, asked by a service.

use std::collections::BTreeMap;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use trunkline_call::Client;
use trunkline_core::{Error, Result, report};

use crate::Cx;

/// How long a service may take to say how it is; each of its checks has 2 s.
const WITHIN: Duration = Duration::from_secs(3);
/// A longer answer is not read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// How a service answered when it was asked how it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ping {
    /// The service.
    pub service: String,
    /// How it is.
    pub status: PingStatus,
    /// How long the answer took, in microseconds.
    pub latency_us: u64,
    /// Each of its checks: `ok`, or what is wrong.
    pub checks: BTreeMap<String, String>,
    /// What its checks tell beside that, such as counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, Value>,
    /// Why it does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PingStatus {
    /// All its checks are ok.
    Healthy,
    /// One is not.
    Unhealthy,
    /// It does not answer, or not as a service does.
    Unreachable,
}

/// What a service answers.
#[derive(Debug, Default, Deserialize)]
struct Said {
    checks: BTreeMap<String, String>,
    #[serde(default)]
    details: BTreeMap<String, Value>,
}

impl Cx {
    /// Asks a service that this one calls, or this one itself, how it is. Whoever fails or takes longer than 3 s is
    /// [`PingStatus::Unreachable`], with the reason. It is asked once, and neither breakers nor retries know of it.
    pub async fn ping(&self, service: &str) -> Ping {
        let began = Instant::now();
        let asked = if *self.service_name() == service {
            Ok(self.own_health().await)
        } else {
            self.health_of(service).await
        };
        let latency = began.elapsed();
        let (status, said, error) = match asked {
            Ok(said) if said.checks.values().all(|one| one == "ok") => {
                (PingStatus::Healthy, said, None)
            }
            Ok(said) => (PingStatus::Unhealthy, said, None),
            Err(error) => {
                let why = report(&error).to_string();
                (PingStatus::Unreachable, Said::default(), Some(why))
            }
        };
        Ping {
            service: service.to_owned(),
            status,
            latency_us: u64::try_from(latency.as_micros()).unwrap_or(u64::MAX),
            checks: said.checks,
            details: said.details,
            error,
        }
    }

    async fn own_health(&self) -> Said {
        let report = self.runtime().health.report().await;
        let named = |(name, said): (trunkline_core::ByteString, _)| (name.to_string(), said);
        Said {
            checks: report
                .checks
                .into_iter()
                .map(|(n, said)| (n.to_string(), said))
                .collect(),
            details: report.details.into_iter().map(named).collect(),
        }
    }

    async fn health_of(&self, service: &str) -> Result<Said> {
        let channel = self.service(service)?.channel().clone().bare();
        let client = Client::new(channel, self.context().clone());
        // Unhealthy is 503, with the same report.
        let answer = client.get("/health").timeout(WITHIN).send_raw().await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
        let body = tokio::time::timeout(WITHIN, body).await;
        let body = body
            .ok()
            .and_then(|body| body.ok())
            .map(|body| body.to_bytes());
        let said = body.and_then(|body| serde_json::from_slice(&body).ok());
        said.ok_or_else(|| {
            let text = "the service does not say how it is";
            Error::unavailable("health_unknown", text).with("status", status)
        })
    }
}
