//! `acl`: only consumers of some groups, or none of some.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use trunkline_core::{ByteString, Error, ErrorKind};

use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings};

const GROUPS: HeaderName = HeaderName::from_static("x-consumer-groups");

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    #[serde(alias = "whitelist")]
    allow: Vec<ByteString>,
    #[serde(alias = "blacklist")]
    deny: Vec<ByteString>,
    hide_groups_header: bool,
    always_use_authenticated_groups: bool,
    include_consumer_groups: bool,
}

#[derive(Debug)]
struct Acl {
    groups: Vec<ByteString>,
    /// Whether those groups are let in, or kept out.
    allows: bool,
    hides: bool,
}

pub(super) fn make(config: Value, _: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    for (name, is_asked) in [
        (
            "always_use_authenticated_groups",
            settings.always_use_authenticated_groups,
        ),
        ("include_consumer_groups", settings.include_consumer_groups),
    ] {
        if is_asked {
            let expected = "expected false: groups are those of a consumer's `acls` alone";
            return Err(mistake(name, expected));
        }
    }
    let (groups, allows) = match (settings.allow.is_empty(), settings.deny.is_empty()) {
        (false, true) => (settings.allow, true),
        (true, false) => (settings.deny, false),
        _ => return Err(mistake("", "expected `allow` or `deny`, and not both")),
    };
    Ok(Arc::new(Acl {
        groups,
        allows,
        hides: settings.hide_groups_header,
    }))
}

impl Plugin for Acl {
    fn sees_answers(&self) -> bool {
        false
    }

    fn access(&self, exchange: &mut Exchange) -> Verdict {
        let Some(consumer) = &exchange.consumer else {
            let text = "expected a consumer that is known";
            return Verdict::Refuse(Error::new(
                ErrorKind::Unauthenticated,
                "consumer_unknown",
                text,
            ));
        };
        let is_in = consumer
            .groups
            .iter()
            .any(|group| self.groups.contains(group));
        if is_in != self.allows {
            let text = "this is not for the groups of this consumer";
            return Verdict::Refuse(Error::new(
                ErrorKind::PermissionDenied,
                "group_not_allowed",
                text,
            ));
        }
        if !self.hides {
            let groups: Vec<&str> = consumer.groups.iter().map(|group| &**group).collect();
            if let Ok(groups) = HeaderValue::try_from(groups.join(", ")) {
                exchange.request.headers.insert(GROUPS, groups);
            }
        }
        Verdict::Next
    }
}
