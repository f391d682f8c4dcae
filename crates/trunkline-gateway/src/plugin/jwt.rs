//! `jwt`: only with a valid token, of the platform's users, of a consumer, or of an issuer that publishes its keys. The
//! verified subject goes on as `x-user-id`.

mod issuer;
mod verified;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::HeaderValue;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use serde::Deserialize;
use serde_json::Value;
use trunkline_core::{ByteString, Error, ErrorKind};
use trunkline_security::refusals::{forged, missing};
use trunkline_security::{Claims, LEEWAY, Times, Verifier};

use self::issuer::Issuer;
use self::verified::{Known, Verified};
use super::shown::{Places, Shown, header_names};
use super::{Exchange, Making, Mistake, Plugin, Verdict, anonymous, mistake, settings};
use crate::consumers::{Consumers, Member};

/// A larger leeway makes times say nothing.
const LEEWAY_SECONDS_MAX: u64 = 3_600;

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Kong's list of times that a token must have. Those that it has are checked in any case.
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
    // Those that follow are of Kong's `openid-connect`, but for the name of the first.
    /// Where the issuer publishes its keys.
    jwks_uri: Option<String>,
    /// The `iss` that a token must have.
    issuer: Option<String>,
    /// One of these must be in a token's `aud`.
    audience: Vec<String>,
    /// How far clocks may be apart, in seconds.
    leeway: Option<u64>,
    /// How long fetching the keys may take, in milliseconds.
    timeout: u32,
    /// The least time between two fetches, in seconds.
    rediscovery_lifetime: u32,
    /// How long keys are taken as they are where the issuer does not say, in seconds.
    cache_ttl: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
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
            jwks_uri: None,
            issuer: None,
            audience: Vec::new(),
            leeway: None,
            timeout: 5_000,
            rediscovery_lifetime: 30,
            cache_ttl: 300,
        }
    }
}

/// Whose tokens are taken.
#[derive(Debug)]
enum Whose {
    /// The platform's users'.
    Users(Verifier),
    /// Those that consumers sign with keys of their own, and what was checked of them before.
    Consumers(Consumers, Verified),
    /// Those of an issuer that publishes its keys.
    Issuer(Issuer),
}

#[derive(Debug)]
struct Jwt {
    whose: Whose,
    /// The claim, or else the field of a token's header, that names a consumer's key.
    key_claim: String,
    places: Places,
    /// Whether the token is all that a header holds, and not only what follows `Bearer`.
    takes_bare: bool,
    anonymous: Option<Arc<Member>>,
    on_preflight: bool,
    required: Vec<Checked>,
    leeway: Duration,
    lifetime_max: i64,
    issuer: Option<ByteString>,
    audience: Vec<String>,
    /// For who shows no token, and for who shows a wrong one.
    challenges: [HeaderValue; 2],
}

pub(super) fn make(config: Value, making: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let settings: Settings = settings(config)?;
    if settings.secret_is_base64 {
        let expected = "expected false: write a consumer's secret as it is";
        return Err(mistake("secret_is_base64", expected));
    }
    let headers = header_names("header_names", &settings.header_names)?;
    let whose = whose(&settings, making)?;
    if settings.leeway.is_some() && matches!(whose, Whose::Users(_)) {
        let expected = "expected nothing: the clocks of the platform may be 30 s apart";
        return Err(mistake("leeway", expected));
    }
    if settings
        .leeway
        .is_some_and(|seconds| seconds > LEEWAY_SECONDS_MAX)
    {
        let expected = format!("expected at most {LEEWAY_SECONDS_MAX} seconds");
        return Err(mistake("leeway", expected));
    }
    Ok(Arc::new(Jwt {
        whose,
        key_claim: settings.key_claim_name,
        takes_bare: *headers != [AUTHORIZATION],
        places: Places {
            headers,
            parameters: settings.uri_param_names,
            cookies: settings.cookie_names,
        },
        anonymous: anonymous(settings.anonymous.as_deref(), making)?,
        on_preflight: settings.run_on_preflight,
        required: settings.claims_to_verify,
        leeway: settings.leeway.map_or(LEEWAY, Duration::from_secs),
        lifetime_max: settings.maximum_expiration,
        issuer: settings.issuer.map(ByteString::from),
        audience: settings.audience,
        challenges: challenges(settings.realm.as_deref())?,
    }))
}

fn whose(settings: &Settings, making: &Making<'_>) -> Result<Whose, Mistake> {
    if let Some(uri) = &settings.jwks_uri {
        return Issuer::new(uri, settings, making).map(Whose::Issuer);
    }
    if !making.consumers.have_tokens() {
        if let Some(verifier) = making.means.verifier.clone() {
            return Ok(Whose::Users(verifier));
        }
        if making.consumers.are_none() {
            let expected = "expected a key to verify tokens with, and nobody who could have one: `jwks_uri`, or a consumer with `jwt_secrets`";
            return Err(mistake("", expected));
        }
    }
    for (name, is_given) in [
        ("issuer", settings.issuer.is_some()),
        ("audience", !settings.audience.is_empty()),
    ] {
        if is_given {
            let expected =
                "expected `jwks_uri` with it: a consumer's key says who issues their tokens";
            return Err(mistake(name, expected));
        }
    }
    // Without any key nobody is let in: the last of them may be taken back.
    let (consumers, none) = (making.consumers.clone(), Verified::default());
    Ok(Whose::Consumers(consumers, none))
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
    /// The token that a request shows.
    fn token<'a>(&self, exchange: &'a Exchange) -> Result<std::borrow::Cow<'a, str>, Error> {
        let of_header = |value: &'a str| {
            let (scheme, token) = value.split_once(' ').unwrap_or(("", value));
            let fits =
                scheme.eq_ignore_ascii_case("bearer") || scheme.is_empty() && self.takes_bare;
            fits.then(|| token.trim())
        };
        match self.places.shown(&exchange.request, of_header) {
            Shown::One(token) => Ok(token),
            Shown::Nothing | Shown::Unfit => Err(missing()),
        }
    }

    /// Whether the request may go on; none where keys have to be fetched first.
    fn verify(&self, exchange: &mut Exchange) -> Result<Option<()>, Error> {
        let token = self.token(exchange)?;
        let now = exchange.now.as_second();
        match &self.whose {
            Whose::Users(verifier) => {
                let claims = verifier.verify(&token)?;
                self.accept(claims, exchange)?;
            }
            Whose::Consumers(consumers, verified) => {
                let known = self.of_consumer(&token, consumers, verified)?;
                self.check_times(known.times, now)?;
                exchange.consumer = Some(known.member);
                exchange.credential = Some(known.key);
            }
            Whose::Issuer(issuer) => match issuer.known(&token)? {
                Some(claims) => self.accept(claims, exchange)?,
                None => return Ok(None),
            },
        }
        Ok(Some(()))
    }

    async fn verify_later(&self, exchange: &mut Exchange) -> Result<(), Error> {
        let Whose::Issuer(issuer) = &self.whose else {
            return Err(Error::internal("only the keys of an issuer are fetched"));
        };
        let claims = issuer.fetched(&self.token(exchange)?).await?;
        self.accept(claims, exchange)
    }

    /// Takes over what a token says that somebody who may has signed.
    fn accept(&self, claims: Claims, exchange: &mut Exchange) -> Result<(), Error> {
        claims.check_subject()?;
        self.check_times(Times::from(&claims), exchange.now.as_second())?;
        if self.issuer.is_some() && claims.iss != self.issuer {
            return Err(forged("it was made by somebody else"));
        }
        let is_meant = || {
            let mut ours = self.audience.iter();
            let theirs = claims.aud.as_ref();
            theirs.is_some_and(|theirs| ours.any(|ours| theirs.contains(ours)))
        };
        if !self.audience.is_empty() && !is_meant() {
            return Err(forged("it was made for somebody else"));
        }
        exchange.credential = Some(claims.sub.clone());
        exchange.claims = Some(claims);
        Ok(())
    }

    /// What a token names its consumer's key by: a claim, or else what its header says (`kid`), as for Kong.
    fn key_of(&self, token: &str) -> Result<Option<ByteString>, Error> {
        let named = |said: &serde_json::Map<String, Value>| {
            let key = said.get(&self.key_claim).and_then(Value::as_str);
            key.map(ByteString::from)
        };
        if let Some(key) = named(&trunkline_security::unverified(token)?) {
            return Ok(Some(key));
        }
        Ok(named(&trunkline_security::unverified_header(token)?))
    }

    fn of_consumer(
        &self,
        token: &str,
        consumers: &Consumers,
        verified: &Verified,
    ) -> Result<Known, Error> {
        if let Some(known) = verified.find(token) {
            return Ok(known);
        }
        let key = self.key_of(token)?;
        let known = key.as_deref().and_then(|key| consumers.with_issuer(key));
        let (verifier, member) = known.ok_or_else(|| forged("no consumer has this key"))?;
        // What was signed is what was read: there is one text of the claims.
        let claims: serde_json::Map<String, Value> = verifier.open(token)?;
        let known = Known {
            member: member.clone(),
            key: key.unwrap_or_default(),
            times: Times::of(&claims)?,
        };
        verified.note(token, known.clone());
        Ok(known)
    }

    fn check_times(&self, times: Times, now: i64) -> Result<(), Error> {
        let is_missing = |required: &Checked| match required {
            Checked::Exp => times.exp.is_none(),
            Checked::Nbf => times.nbf.is_none(),
        };
        if self.required.iter().any(is_missing) {
            return Err(forged("a time is missing that it must have"));
        }
        times.check(now, self.leeway)?;
        let longest = now.saturating_add(self.lifetime_max);
        if self.lifetime_max > 0 && times.exp.is_none_or(|ends| ends > longest) {
            return Err(forged("it is valid for too long"));
        }
        Ok(())
    }

    fn refuse(&self, error: Error, exchange: &mut Exchange) -> Verdict {
        // Whether a token is good can't be told now: nobody is anonymous for that.
        if error.kind() != ErrorKind::Unauthenticated {
            return Verdict::Refuse(error);
        }
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

impl Plugin for Jwt {
    fn sees_answers(&self) -> bool {
        false
    }

    /// Keys that were fetched once need not be fetched again for a new configuration.
    fn remembers(&self) -> bool {
        matches!(self.whose, Whose::Issuer(_)) && self.anonymous.is_none()
    }

    fn access(&self, exchange: &mut Exchange) -> Verdict {
        if !self.on_preflight && exchange.is_preflight() {
            return Verdict::Next;
        }
        match self.verify(exchange) {
            Ok(Some(())) => Verdict::Next,
            Ok(None) => Verdict::Later,
            Err(error) => self.refuse(error, exchange),
        }
    }

    fn wait<'a>(&'a self, exchange: &'a mut Exchange) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            match self.verify_later(exchange).await {
                Ok(()) => Verdict::Next,
                Err(error) => self.refuse(error, exchange),
            }
        })
    }
}
