//! `jwt`: only with a valid token, of the platform's users or of a consumer. The verified subject goes on as `x-user-id`.

use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use trunkline_core::{ByteString, Error, ErrorKind};
use trunkline_security::Verifier;

use super::{Exchange, Making, Mistake, Plugin, Verdict, anonymous, mistake, settings};
use crate::consumers::{Consumers, Member};

/// How far the clocks of a consumer and of the gateway may be apart.
const LEEWAY_SECONDS: i64 = 30;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Kong's list of times to check. They are always checked, where they are there; anything else can't be.
    claims_to_verify: Vec<Checked>,
    key_claim_name: String,
    secret_is_base64: bool,
    uri_param_names: Vec<String>,
    cookie_names: Vec<String>,
    header_names: Vec<String>,
    anonymous: Option<String>,
    run_on_preflight: bool,
    maximum_expiration: i64,
    realm: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Checked {
    Exp,
    Nbf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            claims_to_verify: Vec::new(),
            key_claim_name: "iss".to_owned(),
            secret_is_base64: false,
            uri_param_names: Vec::new(),
            cookie_names: Vec::new(),
            header_names: vec!["authorization".to_owned()],
            anonymous: None,
            run_on_preflight: true,
            maximum_expiration: 0,
            realm: None,
        }
    }
}

/// Whose tokens are taken.
#[derive(Debug)]
enum Whose {
    /// The platform's users'.
    Users(Verifier),
    /// Those that consumers sign with keys of their own.
    Consumers(Consumers),
}

#[derive(Debug)]
struct Jwt {
    whose: Whose,
    /// The claim that names a consumer's key.
    key_claim: String,
    parameters: Vec<String>,
    cookies: Vec<String>,
    headers: Vec<HeaderName>,
    anonymous: Option<Arc<Member>>,
    on_preflight: bool,
    lifetime_max: i64,
    /// For who shows no token, and for who shows a wrong one.
    challenges: [HeaderValue; 2],
}

pub(super) fn make(config: Value, making: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    if settings.secret_is_base64 {
        let expected = "expected false: write a consumer's secret as it is";
        return Err(mistake("secret_is_base64", expected));
    }
    let header = |(index, name): (usize, &String)| {
        HeaderName::try_from(&**name).map_err(|_| {
            mistake(
                &format!("header_names[{index}]"),
                "expected the name of a header",
            )
        })
    };
    let headers: Vec<_> = settings
        .header_names
        .iter()
        .enumerate()
        .map(header)
        .collect::<Result<_, _>>()?;
    let whose = match making.verifier {
        _ if making.consumers.have_tokens() => Whose::Consumers(making.consumers.clone()),
        Some(verifier) => Whose::Users(verifier.clone()),
        None => {
            let expected = "expected a key to verify tokens with, and there is none";
            return Err(mistake("", expected));
        }
    };
    Ok(Arc::new(Jwt {
        whose,
        key_claim: settings.key_claim_name,
        parameters: settings.uri_param_names,
        cookies: settings.cookie_names,
        headers,
        anonymous: anonymous(settings.anonymous.as_deref(), making)?,
        on_preflight: settings.run_on_preflight,
        lifetime_max: settings.maximum_expiration,
        challenges: challenges(settings.realm.as_deref())?,
    }))
}

/// RFC 6750, 3.1: a request without a token is told no error code.
fn challenges(realm: Option<&str>) -> Result<[HeaderValue; 2], Mistake> {
    let (without, wrong) = match realm {
        None => (
            "Bearer".to_owned(),
            "Bearer error=\"invalid_token\"".to_owned(),
        ),
        Some(realm) => {
            let without = format!("Bearer realm=\"{realm}\"");
            let wrong = format!("{without}, error=\"invalid_token\"");
            (without, wrong)
        }
    };
    let value = |text: String| {
        HeaderValue::try_from(text).map_err(|_| mistake("realm", "expected a text for a header"))
    };
    Ok([value(without)?, value(wrong)?])
}

impl Jwt {
    /// The token that a request shows. Two could be read as one by us and as the other by the service.
    fn token(&self, exchange: &Exchange) -> Result<String, Error> {
        let request = &exchange.request;
        let mut tokens: Vec<String> = Vec::new();
        let shown = self
            .headers
            .iter()
            .flat_map(|name| request.headers.get_all(name));
        for value in shown {
            let value = value.to_str().map_err(|_| missing())?;
            let (scheme, token) = value.split_once(' ').unwrap_or(("", value));
            // Another header than the usual one may hold the token alone.
            if scheme.eq_ignore_ascii_case("bearer") || scheme.is_empty() && !self.is_usual() {
                tokens.push(token.trim().to_owned());
            } else {
                return Err(missing());
            }
        }
        let query = request.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        let named = pairs.filter(|(name, _)| self.parameters.iter().any(|known| **known == **name));
        tokens.extend(named.map(|(_, value)| value.into_owned()));
        let cookies = request.headers.get_all(COOKIE).iter();
        let cookies = cookies.filter_map(|value| value.to_str().ok());
        let cookies = cookies.flat_map(|value| value.split(';'));
        let named = cookies.filter_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            self.cookies
                .iter()
                .any(|known| known == name)
                .then_some(value)
        });
        tokens.extend(named.map(str::to_owned));
        match tokens.len() {
            1 => tokens.pop().ok_or_else(missing),
            _ => Err(missing()),
        }
    }

    fn is_usual(&self) -> bool {
        *self.headers == [AUTHORIZATION]
    }

    fn verify(&self, exchange: &mut Exchange) -> Result<(), Error> {
        let token = self.token(exchange)?;
        match &self.whose {
            Whose::Users(verifier) => {
                let claims = verifier.verify(&token)?;
                exchange.credential = Some(claims.sub.clone());
                exchange.claims = Some(claims);
            }
            Whose::Consumers(consumers) => {
                let (member, key) =
                    self.of_consumer(&token, consumers, exchange.now.as_second())?;
                exchange.consumer = Some(member);
                exchange.credential = Some(key);
            }
        }
        Ok(())
    }

    fn of_consumer(
        &self,
        token: &str,
        consumers: &Consumers,
        now: i64,
    ) -> Result<(Arc<Member>, ByteString), Error> {
        let claimed = trunkline_security::unverified(token)?;
        let key = claimed.get(&self.key_claim).and_then(Value::as_str);
        let known = key.and_then(|key| consumers.with_issuer(key));
        let (verifier, member) = known.ok_or_else(|| forged("no consumer has this key"))?;
        let claims: serde_json::Map<String, Value> = verifier.open(token)?;
        let time = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(time) => time
                .as_i64()
                .map(Some)
                .ok_or_else(|| forged("its times are no numbers")),
        };
        let (ends, begins) = (time("exp")?, time("nbf")?);
        let is_over = |ends: i64| ends.saturating_add(LEEWAY_SECONDS) <= now;
        let is_early = |begins: i64| begins > now.saturating_add(LEEWAY_SECONDS);
        if ends.is_some_and(is_over) || begins.is_some_and(is_early) {
            return Err(Error::new(
                ErrorKind::Unauthenticated,
                "token_expired",
                "the token is not valid at this time",
            ));
        }
        let longest = now.saturating_add(self.lifetime_max);
        if self.lifetime_max > 0 && ends.is_none_or(|ends| ends > longest) {
            return Err(forged("it is valid for too long"));
        }
        Ok((member.clone(), key.unwrap_or_default().into()))
    }
}

fn missing() -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        "token_missing",
        "expected `Authorization: Bearer <token>` with a JWT",
    )
}

#[cold]
fn forged(why: &'static str) -> Error {
    let text = "the token was not issued for this place";
    Error::new(ErrorKind::Unauthenticated, "token_forged", text)
        .with_source(std::io::Error::other(why))
}

impl Plugin for Jwt {
    fn access(&self, exchange: &mut Exchange) -> Verdict {
        if !self.on_preflight && exchange.is_preflight() {
            return Verdict::Next;
        }
        let Err(error) = self.verify(exchange) else {
            return Verdict::Next;
        };
        if let Some(anonymous) = &self.anonymous {
            exchange.consumer = Some(anonymous.clone());
            exchange.is_anonymous = true;
            return Verdict::Next;
        }
        let [without, wrong] = &self.challenges;
        let challenge = match error.code() {
            "token_missing" => without,
            _ => wrong,
        };
        let headers = &mut exchange.answer_headers;
        headers.insert(WWW_AUTHENTICATE, challenge.clone());
        Verdict::Refuse(error)
    }
}
