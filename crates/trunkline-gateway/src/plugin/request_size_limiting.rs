//! `request-size-limiting`: no larger body.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use trunkline_core::Error;

use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings};
use crate::problem;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    allowed_payload_size: u64,
    size_unit: Unit,
    require_content_length: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    Megabytes,
    Kilobytes,
    Bytes,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            allowed_payload_size: 128,
            size_unit: Unit::Megabytes,
            require_content_length: false,
        }
    }
}

#[derive(Debug)]
struct RequestSizeLimiting {
    bytes_max: u64,
    needs_length: bool,
}

pub(super) fn make(config: Value, _: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    let unit = match settings.size_unit {
        Unit::Megabytes => 1_024 * 1_024,
        Unit::Kilobytes => 1_024,
        Unit::Bytes => 1,
    };
    let bytes_max = settings
        .allowed_payload_size
        .checked_mul(unit)
        .ok_or_else(|| mistake("allowed_payload_size", "expected a smaller size"))?;
    Ok(Arc::new(RequestSizeLimiting {
        bytes_max,
        needs_length: settings.require_content_length,
    }))
}

impl Plugin for RequestSizeLimiting {
    fn sees_answers(&self) -> bool {
        false
    }

    fn access(&self, exchange: &mut Exchange) -> Verdict {
        exchange.body_bytes_max = Some(self.bytes_max);
        match exchange.body_bytes {
            Some(length) if length > self.bytes_max => {
                Verdict::Refuse(problem::body_too_large(self.bytes_max))
            }
            None if self.needs_length => Verdict::Refuse(Error::invalid(
                problem::LENGTH_REQUIRED,
                "expected a Content-Length",
            )),
            _ => Verdict::Next,
        }
    }
}
