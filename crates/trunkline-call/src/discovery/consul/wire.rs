//! What is said to an agent, and what it says.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use trunkline_core::{Error, Result};

use super::super::{Instance, readable, unreadable};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Service,
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(default)]
    address: String,
    port: u16,
    #[serde(default)]
    weights: Option<Weights>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    #[serde(default)]
    passing: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(default)]
    status: String,
}

/// The instances that a health query lists.
pub(super) fn instances(body: &[u8]) -> Result<Vec<Instance>> {
    // Each by itself, so that one that makes no sense costs only itself.
    let entries: Vec<&RawValue> =
        serde_json::from_slice(body).map_err(|error| unreadable().with_source(error))?;
    readable(entries.into_iter().map(|entry| instance(entry.get())))
}

fn instance(entry: &str) -> Result<Instance> {
    let entry: Entry =
        serde_json::from_str(entry).map_err(|error| unreadable().with_source(error))?;
    let host = match entry.service.address.as_str() {
        "" => &entry.node.address,
        address => address,
    };
    let instance = Instance::at(host, entry.service.port)?;
    let weight = entry.service.weights.map_or(1, |weights| weights.passing);
    // An agent that does not know `passing` lists them all.
    let healthy = entry.checks.iter().all(|check| check.status == "passing");
    Ok(instance.with_weight(weight).with_health(healthy))
}

/// What registers an instance with its check.
pub(super) fn registration(
    id: &str,
    name: &str,
    instance: &Instance,
    lease: Duration,
    forgotten_after: &str,
) -> Result<Vec<u8>> {
    let body = json!({
        "ID": id,
        "Name": name,
        "Address": instance.host(),
        "Port": instance.port(),
        "Weights": { "Passing": instance.weight, "Warning": 1 },
        "Check": {
            "CheckID": format!("service:{id}"),
            "Name": "heartbeat",
            "TTL": format!("{}ms", lease.as_millis()),
            "DeregisterCriticalServiceAfter": forgotten_after,
        },
    });
    serde_json::to_vec(&body)
        .map_err(|error| Error::internal("a registration is JSON").with_source(error))
}
