//! `jwt`: only with a valid token. The verified subject goes on as `x-user-id`.

use std::sync::Arc;

use http::HeaderValue;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use serde::Deserialize;
use serde_json::Value;
use trunkline_security::Verifier;

use super::{Exchange, Making, Mistake, Plugin, Verdict, mistake, settings};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Kong's list of times to check. They are always checked; anything else can't be.
    claims_to_verify: Vec<Checked>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Checked {
    Exp,
    Nbf,
}

#[derive(Debug)]
struct Jwt {
    verifier: Verifier,
}

pub(super) fn make(config: Value, making: &Making<'_>) -> Result<Arc<dyn Plugin>, Mistake> {
    let _: Settings = settings(config)?;
    let verifier = making.verifier.ok_or_else(|| {
        mistake(
            "",
            "expected a key to verify tokens with, and there is none",
        )
    })?;
    Ok(Arc::new(Jwt {
        verifier: verifier.clone(),
    }))
}

impl Plugin for Jwt {
    fn access(&self, exchange: &mut Exchange) -> Verdict {
        let mut given = exchange.request.headers.get_all(AUTHORIZATION).iter();
        // Two headers could be read as one by us and as the other by the service.
        let header = match (given.next(), given.next()) {
            (header, None) => header,
            _ => None,
        };
        match self
            .verifier
            .verify_header(header.map(HeaderValue::as_bytes))
        {
            Ok(claims) => {
                exchange.claims = Some(claims);
                Verdict::Next
            }
            Err(error) => {
                // RFC 6750, 3.1: a request without a token is told no error code.
                let challenge = if error.code() == "token_missing" {
                    "Bearer"
                } else {
                    "Bearer error=\"invalid_token\""
                };
                let challenge = HeaderValue::from_static(challenge);
                exchange.answer_headers.insert(WWW_AUTHENTICATE, challenge);
                Verdict::Refuse(error)
            }
        }
    }
}
