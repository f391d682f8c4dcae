//! `ip-restriction`: only from some addresses, or from none of some.

use std::net::IpAddr;
use std::sync::Arc;

use http::StatusCode;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use trunkline_core::{Error, ErrorKind};

use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings, told};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    #[serde(alias = "whitelist")]
    allow: Vec<String>,
    #[serde(alias = "blacklist")]
    deny: Vec<String>,
    status: Option<u16>,
    message: Option<String>,
}

#[derive(Debug)]
struct IpRestriction {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    /// What is answered instead of a problem.
    answer: Option<(StatusCode, String)>,
}

pub(super) fn make(config: Value, _: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    if settings.allow.is_empty() && settings.deny.is_empty() {
        return Err(mistake("", "expected `allow` or `deny`"));
    }
    let status = settings.status.unwrap_or(403);
    let status = StatusCode::from_u16(status)
        .map_err(|_| mistake("status", "expected a status from 100 to 999"))?;
    let is_plain = settings.message.is_none() && status == StatusCode::FORBIDDEN;
    let message = settings.message.unwrap_or_else(|| "Forbidden".to_owned());
    Ok(Arc::new(IpRestriction {
        allow: nets("allow", &settings.allow)?,
        deny: nets("deny", &settings.deny)?,
        answer: (!is_plain).then_some((status, message)),
    }))
}

/// Addresses and ranges (`10.0.0.0/8`). One of IPv4 inside of IPv6 is the IPv4 one.
fn nets(name: &str, texts: &[String]) -> Result<Vec<IpNet>, Mistake> {
    let net = |(index, text): (usize, &String)| {
        let one = text.parse::<IpAddr>().map(IpNet::from).ok();
        let net = one.or_else(|| text.parse().ok());
        net.ok_or_else(|| {
            let expected =
                format!("expected an address or a range such as 10.0.0.0/8, found `{text}`");
            mistake(&format!("{name}[{index}]"), expected)
        })
    };
    texts.iter().enumerate().map(net).collect()
}

impl Plugin for IpRestriction {
    fn sees_answers(&self) -> bool {
        false
    }

    fn access(&self, exchange: &mut Exchange) -> Verdict {
        let remote = exchange.remote.to_canonical();
        let is_in = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&remote));
        if !is_in(&self.deny) && (self.allow.is_empty() || is_in(&self.allow)) {
            return Verdict::Next;
        }
        match &self.answer {
            Some((status, message)) => Verdict::Answer(told(*status, message)),
            None => Verdict::Refuse(Error::new(
                ErrorKind::PermissionDenied,
                "address_not_allowed",
                "this is not for the address that you come from",
            )),
        }
    }
}
