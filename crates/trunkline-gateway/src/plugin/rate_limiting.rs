//! `rate-limiting`: at most so many requests a second, minute or hour, for each consumer or address.

mod windows;

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use trunkline_core::{Error, ErrorKind};

use self::windows::{Key, Left, Windows};
use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    second: Option<u32>,
    minute: Option<u32>,
    hour: Option<u32>,
    limit_by: LimitBy,
    policy: Policy,
    hide_client_headers: bool,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LimitBy {
    /// The verified subject; the address where there is none.
    #[default]
    Consumer,
    /// The address: IPv4 as it is, IPv6 by its /64.
    Ip,
    /// Everybody's together.
    Service,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Policy {
    /// Counted in this process.
    #[default]
    Local,
}

/// One of the limits: its window, and Kong's headers for it.
#[derive(Debug)]
struct Limit {
    seconds: i64,
    requests_max: u32,
    limit_header: HeaderName,
    remaining_header: HeaderName,
}

#[derive(Debug)]
struct RateLimiting {
    limits: Vec<Limit>,
    policy: HeaderValue,
    by: LimitBy,
    tells: bool,
    windows: Windows,
}

pub(super) fn make(config: Value, _: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    let Policy::Local = settings.policy;
    let mut limits = Vec::new();
    let given = [
        ("second", 1, settings.second),
        ("minute", 60, settings.minute),
        ("hour", 3600, settings.hour),
    ];
    for (name, seconds, requests_max) in given {
        let Some(requests_max) = requests_max else {
            continue;
        };
        if requests_max == 0 {
            return Err(mistake(name, "expected a limit above 0"));
        }
        let header = |what: &str| {
            HeaderName::try_from(format!("x-ratelimit-{what}-{name}"))
                .map_err(|_| mistake(name, "expected the name of a window"))
        };
        limits.push(Limit {
            seconds,
            requests_max,
            limit_header: header("limit")?,
            remaining_header: header("remaining")?,
        });
    }
    if limits.is_empty() {
        return Err(mistake("", "expected a limit: second, minute or hour"));
    }
    let mut policy = String::new();
    for limit in &limits {
        let comma = if policy.is_empty() { "" } else { ", " };
        write!(policy, "{comma}{};w={}", limit.requests_max, limit.seconds).unwrap_or_default();
    }
    let bounds = limits
        .iter()
        .map(|limit| (limit.seconds, limit.requests_max));
    Ok(Arc::new(RateLimiting {
        windows: Windows::new(bounds.collect()),
        policy: HeaderValue::try_from(policy).map_err(|_| mistake("", "expected limits"))?,
        limits,
        by: settings.limit_by,
        tells: !settings.hide_client_headers,
    }))
}

impl LimitBy {
    fn key(self, exchange: &Exchange) -> Key {
        match (self, &exchange.claims) {
            (Self::Service, _) => Key::Everybody,
            (Self::Consumer, Some(claims)) => Key::Consumer(claims.sub.clone()),
            _ => address(exchange.remote),
        }
    }
}

fn address(ip: IpAddr) -> Key {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Key::Address(u64::from(ip.to_bits())),
        // Whoever has one address of a /64 has all of them.
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments().map(u64::from);
            Key::Address(a << 48 | b << 32 | c << 16 | d)
        }
    }
}

impl RateLimiting {
    fn tell(&self, left: &[Left], exchange: &mut Exchange) {
        let headers = &mut exchange.answer_headers;
        for (limit, left) in self.limits.iter().zip(left) {
            headers.insert(limit.limit_header.clone(), limit.requests_max.into());
            headers.insert(limit.remaining_header.clone(), left.requests.into());
        }
        // The IETF's headers tell of the window that will be met first.
        let both = self.limits.iter().zip(left);
        if let Some((limit, left)) = both.min_by_key(|(_, left)| left.requests) {
            headers.insert(LIMIT, limit.requests_max.into());
            headers.insert(REMAINING, left.requests.into());
            headers.insert(RESET, left.reset_seconds.into());
            headers.insert(POLICY, self.policy.clone());
        }
    }
}

impl Plugin for RateLimiting {
    fn remembers(&self) -> bool {
        true
    }

    fn access(&self, exchange: &mut Exchange) -> Verdict {
        let key = self.by.key(exchange);
        let taken = self.windows.take(key, exchange.now.as_second());
        if self.tells {
            self.tell(&taken.left, exchange);
        }
        let Some(wait) = taken.refused_seconds else {
            return Verdict::Next;
        };
        exchange.answer_headers.insert(RETRY_AFTER, wait.into());
        Verdict::Refuse(Error::new(
            ErrorKind::Overloaded,
            "rate_limit_exceeded",
            format!("too many requests; the next one is welcome in {wait} s"),
        ))
    }
}

#[cfg(test)]
mod tests;
