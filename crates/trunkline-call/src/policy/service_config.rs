//! gRPC's own form of saying how a service is called.
//!
//! Of a `methodConfig` this takes `name`, `timeout`, `retryPolicy` and `hedgingPolicy`, and of the whole
//! `retryThrottling`. What asks for anything else is refused by its name: who wrote it counts on it.
//!
//! # Source
//! <https://github.com/grpc/grpc-proto/blob/master/grpc/service_config/service_config.proto>, gRPC proposal A6.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;
use trunkline_core::{Error, Result};

use super::section::BudgetSection;
use super::{GrpcCodes, Operation, OperationName, Target};

/// More than any service has methods.
const METHODS_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ServiceConfig {
    #[serde(default)]
    method_config: Vec<MethodConfig>,
    retry_throttling: Option<Throttling>,
    load_balancing_policy: Option<Value>,
    load_balancing_config: Option<Value>,
    health_check_config: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MethodConfig {
    name: Vec<Name>,
    timeout: Option<String>,
    retry_policy: Option<RetryPolicy>,
    hedging_policy: Option<HedgingPolicy>,
    #[serde(default)]
    wait_for_ready: bool,
    max_request_message_bytes: Option<Value>,
    max_response_message_bytes: Option<Value>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Name {
    service: String,
    method: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RetryPolicy {
    max_attempts: u32,
    initial_backoff: String,
    max_backoff: String,
    backoff_multiplier: f64,
    retryable_status_codes: GrpcCodes,
    per_attempt_recv_timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HedgingPolicy {
    max_attempts: u32,
    hedging_delay: Option<String>,
    #[serde(default)]
    non_fatal_status_codes: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Throttling {
    max_tokens: u32,
    token_ratio: f64,
}

/// What a file says of its target.
///
/// # Errors
/// `InvalidInput` with the place in the file and what was expected there.
pub(super) fn target_of(text: &str) -> Result<Target> {
    let read: ServiceConfig =
        serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    refuse("loadBalancingPolicy", read.load_balancing_policy.is_some())?;
    refuse("loadBalancingConfig", read.load_balancing_config.is_some())?;
    refuse("healthCheckConfig", read.health_check_config.is_some())?;
    let mut target = Target::new();
    let mut known = HashSet::new();
    for (at, method) in read.method_config.iter().enumerate() {
        let place = format!("methodConfig[{at}]");
        let said = method.read(&place)?;
        for name in &method.name {
            let name = name.read(&place)?;
            if known.len() >= METHODS_MAX {
                return Err(wrong(format!("expected at most {METHODS_MAX} names")));
            }
            if !known.insert(name.to_string()) {
                return Err(wrong(format!("{place}.name: `{name}` is named twice")));
            }
            target = target.operation(name, said);
        }
    }
    if let Some(throttling) = &read.retry_throttling {
        target.calls.budget = Some(throttling.read()?);
    }
    Ok(target)
}

impl Name {
    /// The more exact of two counts, and the whole of it, as gRPC has it: nothing of the other shines through.
    fn read(&self, place: &str) -> Result<OperationName> {
        let text = match (self.service.as_str(), self.method.as_str()) {
            ("", "") => return Ok(OperationName::of_grpc(None, None)),
            ("", _) => return Err(wrong(format!("{place}.name: a method is of a service"))),
            (service, "") => return OperationName::of_service(service),
            (service, method) => format!("{service}/{method}"),
        };
        text.parse()
            .map_err(|error: Error| wrong(format!("{place}.name: {error}")))
    }
}

impl MethodConfig {
    fn read(&self, place: &str) -> Result<Operation> {
        refuse_at(place, "waitForReady", self.wait_for_ready)?;
        let is_bounded = self.max_request_message_bytes.is_some();
        refuse_at(place, "maxRequestMessageBytes", is_bounded)?;
        let is_bounded = self.max_response_message_bytes.is_some();
        refuse_at(place, "maxResponseMessageBytes", is_bounded)?;
        let mut said = Operation::new();
        if let Some(timeout) = &self.timeout {
            said.timeout_ms = Some(millis(place, "timeout", timeout)?);
        }
        match (&self.retry_policy, &self.hedging_policy) {
            (Some(_), Some(_)) => {
                let text = "expected one of `retryPolicy` and `hedgingPolicy`";
                return Err(wrong(format!("{place}: {text}")));
            }
            (Some(retry), None) => retry.apply(&mut said, place)?,
            (None, Some(hedging)) => hedging.apply(&mut said, place)?,
            // As ever here: what is safe is tried again.
            (None, None) => {}
        }
        said.check()
            .map_err(|text| wrong(format!("{place}: {text}")))?;
        Ok(said)
    }
}

impl RetryPolicy {
    fn apply(&self, said: &mut Operation, place: &str) -> Result<()> {
        let place = format!("{place}.retryPolicy");
        if self.max_attempts < 2 {
            return Err(wrong(format!("{place}: expected `maxAttempts` from 2 on")));
        }
        // As in gRPC, more are none.
        said.attempts_max = Some(self.max_attempts.min(ATTEMPTS_MAX));
        said.retry_initial_ms = Some(millis(&place, "initialBackoff", &self.initial_backoff)?);
        said.retry_max_ms = Some(millis(&place, "maxBackoff", &self.max_backoff)?);
        let growth = percent(self.backoff_multiplier).filter(|percent| *percent >= 100);
        said.retry_growth_percent = Some(growth.ok_or_else(|| {
            wrong(format!(
                "{place}: expected `backoffMultiplier` from 1 to 100"
            ))
        })?);
        said.retry_codes = Some(self.retryable_status_codes);
        if let Some(limit) = &self.per_attempt_recv_timeout {
            let limit = millis(&place, "perAttemptRecvTimeout", limit)?;
            said.attempt_timeout_ms = Some(limit);
        }
        Ok(())
    }
}

/// What gRPC's clients make of a larger `maxAttempts`.
const ATTEMPTS_MAX: u32 = 5;

impl HedgingPolicy {
    fn apply(&self, said: &mut Operation, place: &str) -> Result<()> {
        let place = format!("{place}.hedgingPolicy");
        if self.max_attempts != 2 {
            let text = "expected `maxAttempts` 2: a call is asked a second time, and no third";
            return Err(wrong(format!("{place}: {text}")));
        }
        let is_named = !self.non_fatal_status_codes.is_empty();
        refuse_at(&place, "nonFatalStatusCodes", is_named)?;
        let delay = self.hedging_delay.as_deref();
        let delay = delay.ok_or_else(|| wrong(format!("{place}: expected `hedgingDelay`")))?;
        said.hedge_after_ms = Some(millis(&place, "hedgingDelay", delay)?);
        // gRPC has one or the other; and who may be asked twice at once may be asked twice.
        said.attempts_max = Some(1);
        said.idempotent = Some(true);
        Ok(())
    }
}

impl Throttling {
    /// gRPC's clients try again while more than half of the tokens are left; a failure takes one, a success gives the
    /// ratio back. So half of them may be used up, and then there are as many retries as the ratio gives.
    fn read(&self) -> Result<BudgetSection> {
        let is_within = (1..=1_000).contains(&self.max_tokens);
        let percent = percent(self.token_ratio).filter(|percent| (1..=100).contains(percent));
        match percent.filter(|_| is_within) {
            Some(percent) => Ok(BudgetSection {
                percent: Some(percent),
                per_second: Some(0),
                saved_max: Some(self.max_tokens / 2),
            }),
            None => Err(wrong(
                "retryThrottling: expected `maxTokens` from 1 to 1000 and `tokenRatio` from 0.01 to 1",
            )),
        }
    }
}

/// A factor in whole percents.
fn percent(factor: f64) -> Option<u32> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within the bounds"
    )]
    (0.0..=100.0)
        .contains(&factor)
        .then(|| (factor * 100.0).round() as u32)
}

/// Reads a time such as `0.25s`, as JSON has it of protobuf. What is no whole millisecond is rounded up.
fn millis(place: &str, key: &str, text: &str) -> Result<u64> {
    let bad = || {
        wrong(format!(
            "{place}: expected `{key}` such as \"0.25s\", found {text:?}"
        ))
    };
    let number = text.strip_suffix('s').ok_or_else(bad)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 9 {
        return Err(bad());
    }
    let seconds: u64 = whole.parse().map_err(|_| bad())?;
    let nanos: u64 = format!("{part:0<9}").parse().map_err(|_| bad())?;
    let whole = seconds.checked_mul(1_000).ok_or_else(bad)?;
    whole.checked_add(nanos.div_ceil(1_000_000)).ok_or_else(bad)
}

fn refuse(key: &str, is_there: bool) -> Result<()> {
    if is_there {
        let text = format!(
            "`{key}` asks for what no channel does: expected methodConfig, retryThrottling"
        );
        return Err(wrong(text));
    }
    Ok(())
}

fn refuse_at(place: &str, key: &str, is_there: bool) -> Result<()> {
    if is_there {
        let text = format!("{place}: `{key}` asks for what no channel does");
        return Err(wrong(text));
    }
    Ok(())
}

#[cold]
fn wrong(text: impl Into<String>) -> Error {
    Error::invalid("service_config_invalid", text.into())
}
