//! `key-auth`: only with a consumer's key, in a header or the query.

use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use http::uri::PathAndQuery;
use http::{HeaderValue, Uri};
use serde::Deserialize;
use serde_json::Value;
use trunkline_core::{Error, ErrorKind};

use super::shown::{Places, Shown, header_names};
use super::{Exchange, Making, Mistake, Plugin, Verdict, anonymous, mistake, settings};
use crate::consumers::{Consumers, Member};

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    key_names: Vec<String>,
    key_in_header: bool,
    key_in_query: bool,
    key_in_body: bool,
    hide_credentials: bool,
    anonymous: Option<String>,
    run_on_preflight: bool,
    realm: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            key_names: vec!["apikey".to_owned()],
            key_in_header: true,
            key_in_query: true,
            key_in_body: false,
            hide_credentials: false,
            anonymous: None,
            run_on_preflight: true,
            realm: None,
        }
    }
}

#[derive(Debug)]
struct KeyAuth {
    consumers: Consumers,
    places: Places,
    hides: bool,
    anonymous: Option<Arc<Member>>,
    on_preflight: bool,
    challenge: HeaderValue,
}

pub(super) fn make(config: Value, making: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    if settings.key_in_body {
        let expected = "expected false: a body is passed on as it comes, and not read";
        return Err(mistake("key_in_body", expected));
    }
    if settings.key_names.is_empty() || !(settings.key_in_header || settings.key_in_query) {
        return Err(mistake(
            "key_names",
            "expected a name, and a place to look: header or query",
        ));
    }
    let anonymous = anonymous(settings.anonymous.as_deref(), making)?;
    // Without any key nobody is let in. Keys may come later, and the last of them may be taken back.
    let headers = header_names("key_names", &settings.key_names)?;
    let challenge = match &settings.realm {
        Some(realm) => format!("Key realm=\"{realm}\""),
        None => "Key".to_owned(),
    };
    Ok(Arc::new(KeyAuth {
        consumers: making.consumers.clone(),
        places: Places {
            headers: if settings.key_in_header {
                headers
            } else {
                Vec::new()
            },
            parameters: if settings.key_in_query {
                settings.key_names
            } else {
                Vec::new()
            },
            cookies: Vec::new(),
        },
        hides: settings.hide_credentials,
        anonymous,
        on_preflight: settings.run_on_preflight,
        challenge: HeaderValue::try_from(challenge)
            .map_err(|_| mistake("realm", "expected a text for a header"))?,
    }))
}

impl KeyAuth {
    /// Takes the key off what the service sees.
    fn hide(&self, exchange: &mut Exchange) {
        let request = &mut exchange.request;
        for name in &self.places.headers {
            request.headers.remove(name);
        }
        let Some(query) = request.uri.query() else {
            return;
        };
        let is_key = |pair: &&str| {
            let mut parsed = form_urlencoded::parse(pair.as_bytes());
            let named = parsed.next();
            named.is_some_and(|(name, _)| {
                self.places.parameters.iter().any(|known| **known == *name)
            })
        };
        let kept: Vec<_> = query.split('&').filter(|pair| !is_key(pair)).collect();
        let mark = if kept.is_empty() { "" } else { "?" };
        let rest = format!("{}{mark}{}", request.uri.path(), kept.join("&"));
        // What was taken out of a good URI leaves a good one.
        if let Ok(rest) = PathAndQuery::try_from(rest) {
            request.uri = Uri::from(rest);
        }
    }
}

impl Plugin for KeyAuth {
    fn sees_answers(&self) -> bool {
        false
    }

    fn access(&self, exchange: &mut Exchange) -> Verdict {
        if exchange.consumer.is_some() || (!self.on_preflight && exchange.is_preflight()) {
            return Verdict::Next;
        }
        let (code, text) = match self.places.shown(&exchange.request, Some) {
            Shown::One(key) if !key.is_empty() => match self.consumers.with_key(&key) {
                Some((member, credential)) => {
                    exchange.consumer = Some(member.clone());
                    exchange.credential = Some(credential);
                    if self.hides {
                        self.hide(exchange);
                    } else {
                        self.places.mark(&mut exchange.request.headers);
                    }
                    return Verdict::Next;
                }
                None => ("key_unknown", "the key is not known"),
            },
            Shown::One(_) | Shown::Nothing => ("key_missing", "expected a key"),
            Shown::Unfit => ("key_ambiguous", "expected one key, and found several"),
        };
        if let Some(anonymous) = &self.anonymous {
            exchange.consumer = Some(anonymous.clone());
            exchange.is_anonymous = true;
            return Verdict::Next;
        }
        exchange
            .answer_headers
            .insert(WWW_AUTHENTICATE, self.challenge.clone());
        Verdict::Refuse(Error::new(ErrorKind::Unauthenticated, code, text))
    }
}
