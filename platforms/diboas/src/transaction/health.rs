//! How all services are, for the staff.

use futures::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Json, Ping, PingStatus, Result, Timestamp};

use super::NAME;
use crate::{STAFF, compliance, provider, wallet};

/// How all services are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthReport {
    /// Whether every service answers and is well.
    pub healthy: bool,
    /// When they were asked.
    #[schemars(with = "String")]
    pub checked_at: Timestamp,
    /// Each service, whatever became of asking it.
    pub services: Vec<Ping>,
}

/// Asks all services side by side; some may fail.
pub(super) async fn report(cx: Cx) -> Result<Json<HealthReport>> {
    cx.require_role(STAFF)?;
    let services = [wallet::NAME, NAME, provider::NAME, compliance::NAME];
    let services = join_all(services.map(|service| cx.ping(service))).await;
    Ok(Json(HealthReport {
        healthy: services.iter().all(|one| one.status == PingStatus::Healthy),
        checked_at: cx.now(),
        services,
    }))
}
