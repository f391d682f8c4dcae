use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;
use trunkline_core::Clock;

use super::*;
use crate::audit::kept_waiting;
use crate::{Claims, Secret, ServiceTokens, Signer, TokenKeysPolicy};

const OPERATION: &str = "POST /reservations";
const MINUTE: Duration = Duration::from_secs(60);

struct Place {
    folder: TempDir,
    keys: TokenKeys,
    tokens: ServiceTokens,
    guard: Guard,
    audit: Audit,
    env: Env,
    clock: Clock,
}

fn permissions() -> Permissions {
    Permissions::new()
        .allow_operation("order-service", "inventory-service", OPERATION)
        .allow("order-service", "payment-service")
}

fn place() -> Place {
    place_with(|guard| guard)
}

fn place_with(set: impl FnOnce(Guard) -> Guard) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let (env, clock) = Env::manual(1);
    let keys = TokenKeys::open(folder.path(), TokenKeysPolicy::default(), env.clone()).unwrap();
    let tokens = ServiceTokens::new("shop", "order-service", keys.clone(), permissions());
    let audit = kept_waiting(env.clone());
    let guard = Guard::new("inventory-service", audit.clone());
    let guard = set(guard.trust("shop", keys.clone()).unwrap());
    Place {
        folder,
        keys,
        tokens,
        guard,
        audit,
        env,
        clock,
    }
}

impl Place {
    async fn code(&self, token: &str) -> String {
        let shown = Shown {
            token: Some(token.as_bytes()),
            operation: OPERATION,
            ..Shown::default()
        };
        self.shown(shown).await
    }

    async fn shown(&self, shown: Shown<'_>) -> String {
        match self.guard.check(shown).await {
            Ok(claims) => {
                assert_eq!(claims.sub, "order-service");
                "passed".to_owned()
            }
            Err(error) => error.code().to_owned(),
        }
    }

    /// What somebody with the keys could sign.
    fn signed(&self, change: impl FnOnce(&mut Value)) -> String {
        let now = self.env.now().as_second();
        let mut claims = json!({
            "iss": "shop", "sub": "order-service", "aud": "inventory-service", "exp": now + 300, "nbf": now,
            "iat": now, "jti": "t-1", "permissions": [OPERATION],
        });
        change(&mut claims);
        signer(self.folder.path())
            .sign_typed(TOKEN_TYPE, &claims)
            .unwrap()
    }
}

/// The signer of the only key in a folder.
fn signer(folder: &Path) -> Signer {
    let file = fs::read_dir(folder).unwrap().next().unwrap().unwrap();
    Signer::ed25519(&Secret::load(&file.path()).unwrap()).unwrap()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[tokio::test]
async fn a_declared_call_passes_and_its_token_is_used_until_it_has_to_be_renewed() {
    let place = place();
    let token = place.tokens.token("inventory-service").unwrap();
    assert_eq!(place.code(&token).await, "passed");
    place.clock.advance(4 * MINUTE - Duration::from_secs(1));
    assert_eq!(place.tokens.token("inventory-service").unwrap(), token);
    place.clock.advance(Duration::from_secs(1));
    let next = place.tokens.token("inventory-service").unwrap();
    assert_ne!(next, token, "a fifth of its life is left");
    assert_eq!(place.code(&token).await, "passed");
    assert_eq!(place.code(&next).await, "passed");
    assert!(place.audit.take_waiting().is_empty());
    let undeclared = place.tokens.token("search-service").unwrap_err();
    assert_eq!(undeclared.code(), "call_not_permitted");
    assert!(
        undeclared
            .to_string()
            .contains(".calls(\"search-service\")")
    );
}

#[tokio::test]
async fn time_is_held_to_with_thirty_seconds_to_spare() {
    let place = place();
    let token = place.tokens.token("inventory-service").unwrap();
    place.clock.advance(5 * MINUTE + Duration::from_secs(29));
    assert_eq!(place.code(&token).await, "passed");
    place.clock.advance(Duration::from_secs(1));
    assert_eq!(place.code(&token).await, "token_expired");
    let now = place.env.now().as_second();
    let early = place.signed(|claims| claims["nbf"] = json!(now + 31));
    assert_eq!(place.code(&early).await, "token_expired");
    for change in [
        |claims: &mut Value, now: i64| claims["exp"] = json!(now + 3601),
        |claims: &mut Value, now: i64| claims["iat"] = json!(now + 31),
        |claims: &mut Value, now: i64| claims["iat"] = json!(now + 300),
    ] {
        let token = place.signed(|claims| change(claims, now));
        assert_eq!(place.code(&token).await, "token_forged");
    }
}

#[tokio::test]
async fn a_token_for_somebody_else_is_refused() {
    let place = place();
    assert_eq!(place.code(&place.signed(|_| {})).await, "passed");
    let elsewhere = place.tokens.token("payment-service").unwrap();
    assert_eq!(place.code(&elsewhere).await, "token_forged");
    for (claim, value) in [
        ("iss", json!("other")),
        ("aud", json!("order-service")),
        ("aud", json!("")),
    ] {
        let token = place.signed(|claims| claims[claim] = value);
        assert_ne!(place.code(&token).await, "passed", "{claim}");
    }
    for claim in [
        "iss",
        "sub",
        "aud",
        "exp",
        "nbf",
        "iat",
        "jti",
        "permissions",
    ] {
        let token = place.signed(|claims| drop(claims.as_object_mut().unwrap().remove(claim)));
        assert_eq!(place.code(&token).await, "token_malformed", "{claim}");
    }
    let spaced = place.signed(|claims| claims["sub"] = json!("a b"));
    assert_eq!(place.code(&spaced).await, "token_malformed");
}

#[tokio::test]
async fn a_token_of_another_key_or_algorithm_or_type_is_forged() {
    let place = place();
    let now = place.env.now().as_second();
    let claims = json!({
        "iss": "shop", "sub": "order-service", "aud": "inventory-service", "exp": now + 300, "nbf": now,
        "iat": now, "jti": "t-1", "permissions": ["*"],
    });
    let public = place.keys.jwks();
    let kid = &public["keys"][0]["kid"];
    let stranger = Signer::ed25519(&Secret::new([9; 32]).unwrap()).unwrap();
    let strange = stranger.sign_typed(TOKEN_TYPE, &claims).unwrap();
    assert_eq!(place.code(&strange).await, "token_forged");
    for alg in ["none", "None", "", "HS384"] {
        let header = json!({ "alg": alg, "typ": TOKEN_TYPE, "kid": kid });
        let token = format!("{}.{}.", part(&header), part(&claims));
        assert_eq!(place.code(&token).await, "token_forged", "{alg}");
    }
    // HMAC under the public key, in each way to write it down.
    let x = public["keys"][0]["x"].as_str().unwrap();
    let raw = URL_SAFE_NO_PAD.decode(x).unwrap();
    for key in [x.as_bytes(), &raw, public.to_string().as_bytes()] {
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(TOKEN_TYPE.to_owned());
        header.kid = kid.as_str().map(str::to_owned);
        let key = EncodingKey::from_secret(key);
        let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        assert_eq!(place.code(&token).await, "token_forged");
    }
    // A user's token, even of the same key.
    let signer = signer(place.folder.path());
    let user = Claims::new("order-service", MINUTE, &place.env).for_audience("inventory-service");
    let user = signer.sign(&user).unwrap();
    assert_eq!(place.code(&user).await, "token_forged");
    let retyped = signer.sign_typed("JWT", &claims).unwrap();
    assert_eq!(place.code(&retyped).await, "token_forged");
}

#[tokio::test]
async fn what_is_no_token_is_told_apart_and_never_looked_at_for_long() {
    let place = place();
    let good = place.signed(|_| {});
    let long = format!("{good}{}", "A".repeat(8192));
    for token in ["", "x", "a.b.c", "....", &long, "e30.e30.e30"] {
        let code = place.code(token).await;
        assert!(
            code == "token_malformed" || code == "token_forged",
            "{code}"
        );
    }
    let no_utf8 = Shown {
        token: Some(b"\xff.\xff.\xff"),
        ..Shown::default()
    };
    assert_eq!(place.shown(no_utf8).await, "token_malformed");
    assert_eq!(place.shown(Shown::default()).await, "token_missing");
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert_ne!(place.code(&changed).await, "passed", "byte {at}");
    }
}

#[tokio::test]
async fn a_single_use_token_is_used_once() {
    let place = place();
    let token = place.tokens.once("inventory-service").unwrap();
    let other = place.tokens.once("inventory-service").unwrap();
    let once = |token: &'static str| Shown {
        token: Some(token.as_bytes()),
        operation: OPERATION,
        once: true,
        ..Shown::default()
    };
    let (token, other) = (
        &*Box::leak(token.to_string().into_boxed_str()),
        &*Box::leak(other.to_string().into_boxed_str()),
    );
    assert_eq!(place.shown(once(token)).await, "passed");
    assert_eq!(place.shown(once(token)).await, "token_replayed");
    assert_eq!(place.shown(once(other)).await, "passed");
    assert_eq!(
        place.code(token).await,
        "passed",
        "elsewhere it may be used again"
    );
}

#[tokio::test]
async fn a_call_that_was_not_declared_is_refused_and_says_what_to_declare() {
    let stricter =
        Permissions::new().allow_operation("order-service", "inventory-service", OPERATION);
    let place = place_with(|guard| guard.permissions(stricter));
    let token = place.signed(|claims| claims["permissions"] = json!(["*"]));
    assert_eq!(place.code(&token).await, "passed");
    let shown = Shown {
        token: Some(token.as_bytes()),
        operation: "DELETE /stock/{sku}",
        correlation_id: Some("flow-7"),
        ..Shown::default()
    };
    let error = place.guard.check(shown).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let token = place.tokens.token("inventory-service").unwrap();
    let shown = Shown {
        token: Some(token.as_bytes()),
        ..shown
    };
    assert_eq!(place.shown(shown).await, "call_not_permitted");
    for entry in place.audit.take_waiting() {
        assert_eq!(entry.actor, "order-service");
        assert_eq!(entry.object, "inventory-service DELETE /stock/{sku}");
        assert_eq!(entry.outcome, AuditOutcome::Refused);
        assert_eq!(entry.correlation_id.as_deref(), Some("flow-7"));
        let reason = entry.reason.unwrap();
        assert!(
            reason.contains(".calls_operation(\"inventory-service\""),
            "{reason}"
        );
    }
}

#[test]
fn who_is_known_by_name_alone_is_held_to_what_it_declares() {
    let known = permissions().caller("cart-service");
    let place = place_with(|guard| guard.permissions(known));
    let may = |caller: &str, operation: &str| {
        let checked = place.guard.check_named(caller, operation, Some("flow-8"));
        checked.map_err(|error| error.code().to_owned())
    };
    may("order-service", OPERATION).unwrap();
    may("a program", "anything").unwrap();
    let denied = Err("call_not_permitted".to_owned());
    assert_eq!(may("order-service", "DELETE /stock/{sku}"), denied);
    assert_eq!(may("cart-service", OPERATION), denied);
    let noted = place.audit.take_waiting();
    let noted: Vec<_> = noted
        .iter()
        .map(|entry| {
            (
                &*entry.actor,
                &*entry.object,
                entry.correlation_id.as_deref(),
            )
        })
        .collect();
    let object = "inventory-service DELETE /stock/{sku}";
    let other = "inventory-service POST /reservations";
    assert_eq!(
        noted,
        [
            ("order-service", object, Some("flow-8")),
            ("cart-service", other, Some("flow-8"))
        ]
    );
}

#[tokio::test]
async fn a_signature_is_checked_again_after_a_minute() {
    let place = place();
    let token = place.tokens.token("inventory-service").unwrap();
    assert_eq!(place.code(&token).await, "passed");
    // Its key is replaced by another's: what was checked a moment ago is believed until the next look.
    fs::remove_dir_all(place.folder.path()).unwrap();
    fs::create_dir(place.folder.path()).unwrap();
    TokenKeys::open(
        place.folder.path(),
        TokenKeysPolicy::default(),
        place.env.clone(),
    )
    .unwrap();
    place.keys.tend().unwrap();
    place.clock.advance(Duration::from_secs(59));
    assert_eq!(place.code(&token).await, "passed");
    place.clock.advance(Duration::from_secs(1));
    assert_eq!(place.code(&token).await, "token_forged");
}

#[tokio::test]
async fn what_is_remembered_of_tokens_is_bounded() {
    let place = place();
    for _ in 0..1_030 {
        let token = place.tokens.once("inventory-service").unwrap();
        assert_eq!(place.code(&token).await, "passed");
    }
    let count = place.guard.0.verified.count();
    assert!((1..=1_024).contains(&count), "{count}");
}

#[tokio::test]
async fn certificate_and_token_name_one_service() {
    let place = place_with(Guard::needs_certificate);
    let token = place.tokens.token("inventory-service").unwrap();
    let shown = Shown {
        token: Some(token.as_bytes()),
        operation: OPERATION,
        certificate: Some("order-service"),
        ..Shown::default()
    };
    assert_eq!(place.shown(shown).await, "passed");
    let other = Some("cart-service");
    let stolen = Shown {
        certificate: other,
        ..shown
    };
    assert_eq!(place.shown(stolen).await, "certificate_mismatch");
    let none = Shown {
        certificate: None,
        ..shown
    };
    assert_eq!(place.shown(none).await, "certificate_missing");
    let bare = Shown {
        token: None,
        certificate: other,
        ..shown
    };
    assert_eq!(place.shown(bare).await, "token_missing");
    let actors: Vec<_> = place.audit.take_waiting();
    let actors: Vec<&str> = actors.iter().map(|entry| &*entry.actor).collect();
    assert_eq!(actors, ["order-service", "unknown", "cart-service"]);
}

#[tokio::test]
async fn the_log_learns_why_and_the_caller_does_not() {
    let place = place();
    let elsewhere = place.tokens.token("payment-service").unwrap();
    let shown = Shown {
        token: Some(elsewhere.as_bytes()),
        operation: OPERATION,
        ..Shown::default()
    };
    let error = place.guard.check(shown).await.unwrap_err();
    assert!(!error.to_string().contains("another service"), "{error}");
    let entries = place.audit.take_waiting();
    let reason = entries[0].reason.as_deref().unwrap();
    assert!(
        reason.ends_with("it was made for another service"),
        "{reason}"
    );
    assert!(!reason.contains(&*elsewhere), "a token is never logged");
}

#[test]
fn an_issuer_is_trusted_once_and_nothing_secret_is_printed() {
    let place = place();
    let seed = fs::read_dir(place.folder.path()).unwrap().next().unwrap();
    let seed = fs::read_to_string(seed.unwrap().path()).unwrap();
    for text in [
        format!("{:?}", place.keys),
        format!("{:?}", place.tokens),
        format!("{:?}", place.guard),
        format!("{:?}", signer(place.folder.path())),
        place.keys.jwks().to_string(),
    ] {
        assert!(!text.contains(seed.trim()), "{text}");
        assert!(!text.contains("\"d\""), "{text}");
    }
    assert!(place.guard.trust("shop", place.keys).is_err());
}
