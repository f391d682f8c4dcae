//! `rate-limiting`: at most so many requests a second, minute, hour or day, for each consumer, address or service.

mod shared;
mod windows;

use std::fmt::Write;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use trunkline_core::{Error, ErrorKind};

use self::shared::Shared;
use self::windows::{Key, Left, Taken, Windows};
use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings, told};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMITS: HeaderName = HeaderName::from_static("ratelimit");

#[derive(Default, Deserialize)]
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
    /// Whether requests are counted here while Redis is away, and not refused.
    fault_tolerant: Option<bool>,
    sync_rate: Option<f64>,
    redis: Option<shared::Settings>,
    /// Kong's names before 3.6.
    redis_host: Option<String>,
    redis_port: Option<u16>,
    redis_timeout: Option<u32>,
    redis_username: Option<String>,
    redis_password: Option<String>,
    redis_database: Option<u16>,
    redis_ssl: bool,
    #[serde(rename = "redis_ssl_verify")]
    _redis_ssl_verify: bool,
    #[serde(rename = "redis_server_name")]
    _redis_server_name: Option<String>,
}

impl Settings {
    /// Where Redis is, by the newer names or the older ones.
    fn redis(&mut self) -> shared::Settings {
        let mut redis = self.redis.take().unwrap_or_default();
        redis.host = redis.host.or_else(|| self.redis_host.take());
        redis.port = redis.port.or(self.redis_port);
        redis.timeout = redis.timeout.or(self.redis_timeout);
        redis.username = redis.username.or_else(|| self.redis_username.take());
        redis.password = redis.password.or_else(|| self.redis_password.take());
        redis.database = redis.database.or(self.redis_database);
        redis.ssl |= self.redis_ssl;
        redis
    }
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

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Policy {
    /// Counted in this process.
    #[default]
    Local,
    /// Counted by all gateways together.
    Redis,
}

/// One of the limits: its window, and Kong's headers for it.
#[derive(Debug)]
struct Limit {
    name: &'static str,
    seconds: i64,
    requests_max: u32,
    limit_header: HeaderName,
    remaining_header: HeaderName,
    /// What the former says.
    most: HeaderValue,
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
    /// Counted here: always, or while Redis is away.
    windows: Windows,
    shared: Option<Shared>,
    tolerates: bool,
}

pub(super) fn make(config: Value, making: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let mut settings: Settings = settings(config)?;
    if settings.sync_rate.is_some_and(|rate| rate >= 0.0) {
        let expected = "expected -1: each request is counted at once";
        return Err(mistake("sync_rate", expected));
    }
    let limits = limits_of(&settings)?;
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
        let (name, most, seconds) = (limit.name, limit.requests_max, limit.seconds);
        write!(policy, "{comma}\"{name}\";q={most};w={seconds}").unwrap_or_default();
    }
    let bounds = limits
        .iter()
        .map(|limit| (limit.seconds, limit.requests_max));
    let bounds: Vec<_> = bounds.collect();
    let shared = match settings.policy {
        Policy::Local => None,
        Policy::Redis => {
            let (redis, scope) = (settings.redis(), making.scope.clone());
            Some(Shared::new(redis, scope, bounds.clone())?)
        }
    };
    Ok(Arc::new(RateLimiting {
        windows: Windows::new(bounds),
        shared,
        tolerates: settings.fault_tolerant.unwrap_or(true),
        policy: HeaderValue::try_from(policy).map_err(|_| mistake("", "expected limits"))?,
        limits,
        by: settings.limit_by,
        header,
        path,
        answer,
        tells: !settings.hide_client_headers,
    }))
}

/// Windows with their seconds, and Kong's headers of them: names that are known beforehand are passed on for nothing.
const WINDOWS: [(&str, i64, &str, &str); 4] = [
    (
        "second",
        1,
        "x-ratelimit-limit-second",
        "x-ratelimit-remaining-second",
    ),
    (
        "minute",
        60,
        "x-ratelimit-limit-minute",
        "x-ratelimit-remaining-minute",
    ),
    (
        "hour",
        3_600,
        "x-ratelimit-limit-hour",
        "x-ratelimit-remaining-hour",
    ),
    (
        "day",
        86_400,
        "x-ratelimit-limit-day",
        "x-ratelimit-remaining-day",
    ),
];

fn limits_of(settings: &Settings) -> Result<Vec<Limit>, Mistake> {
    let mut limits = Vec::new();
    let given = [
        (WINDOWS[0], settings.second),
        (WINDOWS[1], settings.minute),
        (WINDOWS[2], settings.hour),
        (WINDOWS[3], settings.day),
    ];
    for ((name, seconds, limit_header, remaining_header), requests_max) in given {
        let Some(requests_max) = requests_max else {
            continue;
        };
        if requests_max == 0 {
            return Err(mistake(name, "expected a limit above 0"));
        }
        limits.push(Limit {
            name,
            seconds,
            requests_max,
            limit_header: HeaderName::from_static(limit_header),
            remaining_header: HeaderName::from_static(remaining_header),
            most: requests_max.into(),
        });
    }
    if limits.is_empty() {
        return Err(mistake("", "expected a limit: second, minute, hour or day"));
    }
    Ok(limits)
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

/// What `ratelimit` says, which has in it what two others say: one text for all of them.
struct Told {
    text: Bytes,
    remaining: Range<usize>,
    reset: Range<usize>,
}

impl Told {
    fn of(name: &str, left: &Left) -> Self {
        // A name, and two numbers of ten and five digits at most.
        let mut text = String::with_capacity(name.len() + 24);
        text.push('"');
        text.push_str(name);
        text.push_str("\";r=");
        let remaining = append(&mut text, u64::from(left.requests));
        text.push_str(";t=");
        let reset = append(&mut text, left.reset_seconds.unsigned_abs());
        Self {
            text: text.into(),
            remaining,
            reset,
        }
    }

    fn whole(&self) -> Option<HeaderValue> {
        HeaderValue::from_maybe_shared(self.text.clone()).ok()
    }

    fn remaining(&self) -> Option<HeaderValue> {
        HeaderValue::from_maybe_shared(self.text.slice(self.remaining.clone())).ok()
    }

    fn reset(&self) -> Option<HeaderValue> {
        HeaderValue::from_maybe_shared(self.text.slice(self.reset.clone())).ok()
    }
}

/// Writes a number, and tells where it stands.
fn append(text: &mut String, number: u64) -> Range<usize> {
    let before = text.len();
    text.push_str(itoa::Buffer::new().format(number));
    before..text.len()
}

/// Headers besides two for each window.
const TOLD_MAX: usize = 5;

impl RateLimiting {
    fn tell(&self, left: &[Left], exchange: &mut Exchange) {
        let headers = &mut exchange.answer_headers;
        headers.reserve(2 * left.len() + TOLD_MAX);
        // The IETF's headers tell of the window that will be met first.
        let both = self.limits.iter().zip(left).enumerate();
        let first = both.min_by_key(|(_, (_, left))| left.requests);
        for (at, (limit, left)) in self.limits.iter().zip(left).enumerate() {
            headers.insert(limit.limit_header.clone(), limit.most.clone());
            if first.is_none_or(|(first, _)| first != at) {
                headers.insert(limit.remaining_header.clone(), left.requests.into());
            }
        }
        let Some((_, (limit, left))) = first else {
            return;
        };
        let told = Told::of(limit.name, left);
        if let Some(remaining) = told.remaining() {
            headers.insert(limit.remaining_header.clone(), remaining.clone());
            headers.insert(REMAINING, remaining);
        }
        headers.insert(LIMIT, limit.most.clone());
        if let Some(reset) = told.reset() {
            headers.insert(RESET, reset);
        }
        headers.insert(POLICY, self.policy.clone());
        if let Some(whole) = told.whole() {
            headers.insert(LIMITS, whole);
        }
    }

    /// What is made of a request that was counted, or was not because a window is full.
    fn judge(&self, taken: &Taken, exchange: &mut Exchange) -> Verdict {
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

    /// Counts a request in this process, if it may be counted here at all.
    fn count_here(&self, key: Key, exchange: &mut Exchange) -> Verdict {
        if self.shared.is_some() && !self.tolerates {
            let text = "requests can't be counted: the place where limits are shared is away";
            return Verdict::Refuse(Error::internal(text));
        }
        let taken = self.windows.take(key, exchange.now.as_second());
        self.judge(&taken, exchange)
    }
}

impl Plugin for RateLimiting {
    fn sees_answers(&self) -> bool {
        false
    }

    fn remembers(&self) -> bool {
        true
    }

    fn access(&self, exchange: &mut Exchange) -> Verdict {
        let Some(key) = self.key(exchange) else {
            return Verdict::Next;
        };
        match &self.shared {
            Some(shared) if shared.is_worth_a_try() => Verdict::Later,
            _ => self.count_here(key, exchange),
        }
    }

    fn wait<'a>(&'a self, exchange: &'a mut Exchange) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let (Some(shared), Some(key)) = (&self.shared, self.key(exchange)) else {
                return Verdict::Next;
            };
            match shared.take(&key).await {
                Some(taken) => self.judge(&taken, exchange),
                None => self.count_here(key, exchange),
            }
        })
    }
}

#[cfg(test)]
mod tests;
