//! `rate-limiting`: at most so many requests a second, minute, hour or day, for each consumer, address or service.

mod windows;

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use trunkline_core::{Error, ErrorKind};

use self::windows::{Key, Left, Windows};
use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings, told};

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
    day: Option<u32>,
    limit_by: LimitBy,
    header_name: Option<String>,
    path: Option<String>,
    policy: Policy,
    hide_client_headers: bool,
    error_code: Option<u16>,
    error_message: Option<String>,
    /// Without a store there is nothing that could fail.
    #[serde(rename = "fault_tolerant")]
    _fault_tolerant: Option<bool>,
    #[serde(rename = "sync_rate")]
    _sync_rate: Option<f64>,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LimitBy {
    /// The verified subject; the address where there is none.
    #[default]
    Consumer,
    /// The key or token; the address where there is none.
    Credential,
    /// The address: IPv4 as it is, IPv6 by its /64.
    Ip,
    /// Everybody's together, for each service.
    Service,
    /// What a header says; the address where it is not there.
    Header,
    /// Everybody's together who ask for one path; others are not counted.
    Path,
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
    header: Option<HeaderName>,
    path: Option<String>,
    /// What is answered instead of a problem.
    answer: Option<(StatusCode, String)>,
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
        ("hour", 3_600, settings.hour),
        ("day", 86_400, settings.day),
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
        return Err(mistake("", "expected a limit: second, minute, hour or day"));
    }
    let (header, path) = counted_by(&settings)?;
    let answer = match (settings.error_code, &settings.error_message) {
        (None, None) => None,
        (code, message) => {
            let status = StatusCode::from_u16(code.unwrap_or(429))
                .map_err(|_| mistake("error_code", "expected a status from 100 to 999"))?;
            let message = message.as_deref().unwrap_or("API rate limit exceeded");
            Some((status, message.to_owned()))
        }
    };
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
        header,
        path,
        answer,
        tells: !settings.hide_client_headers,
    }))
}

/// The header or the path that requests are counted by, where the settings say so.
fn counted_by(settings: &Settings) -> Result<(Option<HeaderName>, Option<String>), Mistake> {
    match settings.limit_by {
        LimitBy::Header => {
            let name = settings.header_name.as_deref().unwrap_or_default();
            let name = HeaderName::try_from(name)
                .map_err(|_| mistake("header_name", "expected the name of a header"))?;
            Ok((Some(name), None))
        }
        LimitBy::Path => match &settings.path {
            Some(path) if path.starts_with('/') => Ok((None, Some(path.clone()))),
            _ => Err(mistake("path", "expected a path that begins with /")),
        },
        _ => Ok((None, None)),
    }
}

impl RateLimiting {
    /// Whose requests this one is counted with; none if it is not counted.
    fn key(&self, exchange: &Exchange) -> Option<Key> {
        let known = match self.by {
            LimitBy::Service => Some(Key::Service(exchange.service.clone())),
            LimitBy::Path => {
                let counts = self.path.as_deref() == Some(exchange.request.uri.path());
                return counts.then_some(Key::Everybody);
            }
            LimitBy::Consumer => {
                let member = exchange
                    .consumer
                    .as_ref()
                    .map(|member| member.username.clone());
                let user = || exchange.claims.as_ref().map(|claims| claims.sub.clone());
                member.or_else(user).map(Key::Consumer)
            }
            LimitBy::Credential => exchange.credential.clone().map(Key::Credential),
            LimitBy::Header => {
                let value = self
                    .header
                    .as_ref()
                    .and_then(|name| exchange.request.headers.get(name));
                let value = value.and_then(|value| value.to_str().ok());
                value.map(|value| Key::Header(value.into()))
            }
            LimitBy::Ip => None,
        };
        Some(known.unwrap_or_else(|| address(exchange.remote)))
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
        let Some(key) = self.key(exchange) else {
            return Verdict::Next;
        };
        let taken = self.windows.take(key, exchange.now.as_second());
        if self.tells {
            self.tell(&taken.left, exchange);
        }
        let Some(wait) = taken.refused_seconds else {
            return Verdict::Next;
        };
        exchange.answer_headers.insert(RETRY_AFTER, wait.into());
        if let Some((status, message)) = &self.answer {
            return Verdict::Answer(told(*status, message));
        }
        Verdict::Refuse(Error::new(
            ErrorKind::Overloaded,
            "rate_limit_exceeded",
            format!("too many requests; the next one is welcome in {wait} s"),
        ))
    }
}

#[cfg(test)]
mod tests;
