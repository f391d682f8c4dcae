//! `bot-detection`: no known crawlers and scripts, by what they say that they are.

use std::sync::Arc;

use http::header::USER_AGENT;
use regex::RegexSet;
use serde::Deserialize;
use serde_json::Value;
use trunkline_core::{Error, ErrorKind};

use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings};
use crate::route::why;

/// What is kept out by itself, by the names that crawlers give.
const KNOWN: [&str; 12] = [
    r"(?i)(CSimpleSpider)",
    r"(?i)bot/",
    r"(?i)googlebot",
    r"(?i)bingbot",
    r"(?i)spider",
    r"(?i)crawler",
    r"(?i)slurp",
    r"(?i)scrapy",
    r"(?i)ahrefs",
    r"(?i)semrush",
    r"(?i)facebookexternalhit",
    r"(?i)archiver",
];

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    #[serde(alias = "whitelist")]
    allow: Vec<String>,
    #[serde(alias = "blacklist")]
    deny: Vec<String>,
}

#[derive(Debug)]
struct BotDetection {
    allow: RegexSet,
    deny: RegexSet,
}

pub(super) fn make(config: Value, _: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    let set = |name: &str, patterns: Vec<String>| {
        RegexSet::new(patterns)
            .map_err(|error| mistake(name, format!("expected expressions: {}", why(&error))))
    };
    let mut deny = settings.deny;
    deny.extend(KNOWN.map(str::to_owned));
    Ok(Arc::new(BotDetection {
        allow: set("allow", settings.allow)?,
        deny: set("deny", deny)?,
    }))
}

impl Plugin for BotDetection {
    fn sees_answers(&self) -> bool {
        false
    }

    fn access(&self, exchange: &mut Exchange) -> Verdict {
        let mut agents = exchange.request.headers.get_all(USER_AGENT).iter();
        let denied = agents.any(|agent| {
            let agent = String::from_utf8_lossy(agent.as_bytes());
            !self.allow.is_match(&agent) && self.deny.is_match(&agent)
        });
        if denied {
            let text = "this is not for programs of your kind";
            return Verdict::Refuse(Error::new(ErrorKind::PermissionDenied, "bot_denied", text));
        }
        Verdict::Next
    }
}
