//! `correlation-id`: an id under a header of the user's choice, besides `x-request-id` and `x-correlation-id`,
//! which every request has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderName, HeaderValue, Response};
use serde::Deserialize;
use serde_json::Value;
use trunkline_call::Body;
use trunkline_core::{ByteString, Env};

use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings};

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    header_name: String,
    generator: Generator,
    echo_downstream: bool,
}

#[derive(Debug, Deserialize)]
enum Generator {
    #[serde(rename = "uuid")]
    Uuid,
    #[serde(rename = "uuid#counter")]
    UuidCounter,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            header_name: "kong-request-id".to_owned(),
            generator: Generator::UuidCounter,
            echo_downstream: false,
        }
    }
}

#[derive(Debug)]
struct CorrelationId {
    header: HeaderName,
    /// The id that a counter is added to; a new id for each request without.
    counted: Option<(ByteString, AtomicU64)>,
    echo: bool,
    env: Env,
}

pub(super) fn make(config: Value, making: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    let header = settings
        .header_name
        .parse::<HeaderName>()
        .map_err(|_| mistake("header_name", "expected the name of a header"))?;
    let counted = match settings.generator {
        Generator::Uuid => None,
        Generator::UuidCounter => Some((making.env.id().to_string().into(), AtomicU64::new(0))),
    };
    Ok(Arc::new(CorrelationId {
        header,
        counted,
        echo: settings.echo_downstream,
        env: making.env.clone(),
    }))
}

impl Plugin for CorrelationId {
    fn access(&self, exchange: &mut Exchange) -> Verdict {
        if !exchange.request.headers.contains_key(&self.header) {
            let id = match &self.counted {
                None => self.env.id().to_string(),
                Some((id, counter)) => {
                    format!("{id}#{}", counter.fetch_add(1, Ordering::Relaxed) + 1)
                }
            };
            if let Ok(id) = HeaderValue::from_str(&id) {
                exchange.request.headers.insert(self.header.clone(), id);
            }
        }
        Verdict::Next
    }

    fn answer(&self, exchange: &Exchange, response: &mut Response<Body>) {
        if self.echo
            && let Some(id) = exchange.request.headers.get(&self.header)
        {
            response
                .headers_mut()
                .insert(self.header.clone(), id.clone());
        }
    }
}
