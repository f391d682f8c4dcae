use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};
use trunkline_core::Clock;

use super::*;
use crate::keys::{KEYS_MAX, TOKEN_BYTES_MAX};
use crate::{Audience, Signer};

const PRIVATE: &str = include_str!("test-private.pem");
const PUBLIC: &str = include_str!("test-public.pem");
const SHORT: &str = include_str!("test-short-public.pem");
const HOUR: Duration = Duration::from_secs(3600);

fn secret() -> Secret {
    Secret::new(*b"0123456789abcdef0123456789abcdef").unwrap()
}

fn hs256() -> (Signer, Verifier, Env, Clock) {
    let (env, clock) = Env::manual(1);
    let verifier = Verifier::hs256(&secret(), env.clone());
    (Signer::hs256(&secret()), verifier, env, clock)
}

/// A token with this header and these claims, signed as the secret's owner would.
fn signed(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(secret().bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn code(verifier: &Verifier, token: &str) -> String {
    let error = verifier.verify(token).unwrap_err();
    assert_eq!(error.kind(), trunkline_core::ErrorKind::Unauthenticated);
    error.code().to_owned()
}

#[test]
fn what_is_signed_is_believed() {
    let (signer, verifier, env, _) = hs256();
    let claims = Claims::new("user-1", HOUR, &env)
        .issued_by("storefront")
        .for_audience("api")
        .named("Ada")
        .with_role("admin");
    let token = signer.sign(&claims).unwrap();
    assert_eq!(verifier.verify(&token).unwrap(), claims);
    let header = format!("bearer {token}");
    let found = verifier.verify_header(Some(header.as_bytes())).unwrap();
    assert_eq!(found.sub, "user-1");
}

#[test]
fn a_token_that_is_missing_or_no_token_is_told_apart() {
    let (_, verifier, ..) = hs256();
    for header in [None, Some("".as_bytes()), Some(b"Basic YTpi"), Some(b"Bea")] {
        assert_eq!(
            verifier.verify_header(header).unwrap_err().code(),
            "token_missing"
        );
    }
    let long = "a".repeat(TOKEN_BYTES_MAX + 1);
    for token in ["", "x", "a.b", "a.b.c", "a.b.c.d", "e30.e30", "....", &long] {
        assert_eq!(code(&verifier, token), "token_malformed", "{token:.20}");
    }
    let no_utf8 = verifier.verify_header(Some(b"Bearer \xff.\xff.\xff"));
    assert_eq!(no_utf8.unwrap_err().code(), "token_malformed");
}

#[test]
fn time_is_the_environments_with_thirty_seconds_to_spare() {
    let (signer, verifier, env, clock) = hs256();
    let token = signer.sign(&Claims::new("u", HOUR, &env)).unwrap();
    clock.advance(HOUR + Duration::from_secs(29));
    assert!(verifier.verify(&token).is_ok());
    clock.advance(Duration::from_secs(1));
    assert_eq!(code(&verifier, &token), "token_expired");

    let mut later = Claims::new("u", HOUR, &env);
    later.nbf = Some(env.now().as_second() + 31);
    let token = signer.sign(&later).unwrap();
    assert_eq!(code(&verifier, &token), "token_expired");
    clock.advance(Duration::from_secs(1));
    assert!(verifier.verify(&token).is_ok());
}

#[test]
fn a_changed_byte_anywhere_is_refused() {
    let (signer, verifier, env, _) = hs256();
    let token = signer.sign(&Claims::new("user-1", HOUR, &env)).unwrap();
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(verifier.verify(&changed).is_err(), "byte {at} of {token}");
    }
}

#[test]
fn an_algorithm_is_not_chosen_by_the_token() {
    let env = Env::seeded(1);
    let exp = env.now().as_second() + 60;
    let claims = json!({ "sub": "admin", "exp": exp });
    let rsa = Verifier::rs256_pem(PUBLIC, env).unwrap();
    let (_, hmac, ..) = hs256();
    let both = rsa.clone().or(&hmac);
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let bare = format!("{}.{}.", part(&json!({ "alg": alg })), part(&claims));
        let resigned = signed(&json!({ "alg": alg }), &claims);
        for token in [&bare, &resigned] {
            for verifier in [&rsa, &hmac, &both] {
                assert_eq!(code(verifier, token), "token_forged", "{alg}");
            }
        }
    }
    // The classic: HMAC under the public key, which everybody knows.
    for key in [PUBLIC.as_bytes(), PUBLIC.trim().as_bytes()] {
        let header = jsonwebtoken::Header::new(Algorithm::HS256);
        let key = EncodingKey::from_secret(key);
        let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        for verifier in [&rsa, &both] {
            assert_eq!(code(verifier, &token), "token_forged");
        }
    }
    for alg in ["HS384", "HS512", "RS256", "ES256", "EdDSA"] {
        let token = signed(&json!({ "alg": alg }), &claims);
        assert_eq!(code(&hmac, &token), "token_forged", "{alg}");
    }
    assert!(
        hmac.verify(&signed(&json!({ "alg": "HS256" }), &claims))
            .is_ok()
    );
}

#[test]
fn headers_and_claims_that_must_not_be_read_over_are_not() {
    let (_, verifier, env, _) = hs256();
    let exp = env.now().as_second() + 60;
    let good = json!({ "alg": "HS256" });
    let critical = json!({ "alg": "HS256", "crit": ["b64"], "b64": false });
    let claims = json!({ "sub": "u", "exp": exp });
    assert_eq!(code(&verifier, &signed(&critical, &claims)), "token_forged");
    for claims in [
        json!({ "sub": "u" }),
        json!({ "exp": exp }),
        json!({ "sub": "", "exp": exp }),
        json!({ "sub": "a b", "exp": exp }),
        json!({ "sub": "a\r\nx-user-id: b", "exp": exp }),
        json!({ "sub": "ü", "exp": exp }),
        json!({ "sub": "u".repeat(257), "exp": exp }),
        json!({ "sub": 7, "exp": exp }),
        json!({ "sub": "u", "exp": "soon" }),
        json!([1]),
    ] {
        assert_eq!(
            code(&verifier, &signed(&good, &claims)),
            "token_malformed",
            "{claims}"
        );
    }
    let fraction = json!({ "sub": "u", "exp": 1.5e300, "iat": 0.5, "else": [1] });
    assert_eq!(
        verifier.verify(&signed(&good, &fraction)).unwrap().exp,
        i64::MAX
    );
}

#[test]
fn keys_of_curves_sign_and_verify_their_own_algorithm_alone() {
    let env = Env::seeded(1);
    let pair = rcgen::KeyPair::generate().unwrap();
    let es256 = Signer::es256_pem(&pair.serialize_pem()).unwrap();
    let eddsa = Signer::ed25519(&secret()).unwrap();
    let rsa = Signer::rs256_pem(PRIVATE).unwrap();
    let claims = Claims::new("u", HOUR, &env);
    let public = pair.public_key_pem();
    let by_pem = Verifier::es256_pem(&public, env.clone()).unwrap();
    assert!(by_pem.verify(&es256.sign(&claims).unwrap()).is_ok());
    assert!(Verifier::eddsa_pem(&public, env.clone()).is_err());
    assert!(Verifier::rs256_pem(&public, env.clone()).is_err());
    assert!(Verifier::es256_pem(PUBLIC, env.clone()).is_err());
    assert!(Signer::es256_pem(&public).is_err());
    let signers = [&es256, &eddsa, &rsa];
    let mut all = json!({ "keys": [] });
    for (at, signer) in signers.iter().enumerate() {
        let published = signer.jwks();
        assert!(!published.to_string().contains("\"d\""));
        all["keys"]
            .as_array_mut()
            .unwrap()
            .push(published["keys"][0].clone());
        let verifier = Verifier::jwks(&published.to_string(), env.clone()).unwrap();
        for (other, signer) in signers.iter().enumerate() {
            let token = signer.sign(&claims).unwrap();
            assert_eq!(verifier.verify(&token).is_ok(), at == other);
        }
        // Under the public key as HMAC's secret, however it is written down.
        let x = published["keys"][0]["x"].as_str().unwrap_or("AAAA");
        let mut header = jsonwebtoken::Header::new(Algorithm::HS256);
        header.kid = published["keys"][0]["kid"].as_str().map(str::to_owned);
        for key in [
            x.as_bytes(),
            public.as_bytes(),
            &URL_SAFE_NO_PAD.decode(x).unwrap(),
        ] {
            let key = EncodingKey::from_secret(key);
            let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
            assert_eq!(code(&verifier, &token), "token_forged");
        }
    }
    let verifier = Verifier::jwks(&all.to_string(), env.clone()).unwrap();
    for signer in signers {
        assert!(verifier.verify(&signer.sign(&claims).unwrap()).is_ok());
    }
    all["keys"][1]["x"] = json!("AAAA");
    assert!(Verifier::jwks(&all.to_string(), env).is_err());
    assert!(Signer::ed25519(&Secret::new([1; 33]).unwrap()).is_err());
}

#[test]
fn issuer_and_audience_are_held_to() {
    let (signer, verifier, env, _) = hs256();
    let verifier = verifier.issuer("storefront").audience("api");
    let claims = Claims::new("u", HOUR, &env);
    let mut many = claims.clone().issued_by("storefront");
    many.aud = Some(Audience::Many(vec!["web".into(), "api".into()]));
    assert!(verifier.verify(&signer.sign(&many).unwrap()).is_ok());
    for wrong in [
        claims.clone(),
        claims.clone().issued_by("storefront"),
        claims.clone().for_audience("api"),
        claims.clone().issued_by("storefront").for_audience("web"),
        claims.issued_by("other").for_audience("api"),
    ] {
        assert_eq!(
            code(&verifier, &signer.sign(&wrong).unwrap()),
            "token_forged"
        );
    }
}

#[test]
fn a_published_key_verifies_and_a_retired_one_ceases_to() {
    let env = Env::seeded(1);
    let signer = Signer::rs256_pem(PRIVATE).unwrap();
    let token = signer.sign(&Claims::new("u", HOUR, &env)).unwrap();
    let published = signer.jwks();
    let text = published.to_string();
    assert!(
        !text.contains("\"d\""),
        "the private half stays at home: {text}"
    );
    assert!(
        Verifier::jwks(&text, env.clone())
            .unwrap()
            .verify(&token)
            .is_ok()
    );
    assert!(
        Verifier::rs256_pem(PUBLIC, env.clone())
            .unwrap()
            .verify(&token)
            .is_ok()
    );

    let mut renamed = published.clone();
    renamed["keys"][0]["kid"] = json!("another");
    let verifier = Verifier::jwks(&renamed.to_string(), env.clone()).unwrap();
    assert_eq!(code(&verifier, &token), "token_forged");

    let other_ends = json!({ "keys": [
        { "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" },
        { "kty": "EC", "crv": "P-384", "x": "AA", "y": "AA", "alg": "ES384" },
        published["keys"][0],
    ] });
    let verifier = Verifier::jwks(&other_ends.to_string(), env).unwrap();
    assert!(verifier.verify(&token).is_ok());
    assert_eq!(Signer::hs256(&secret()).jwks(), json!({ "keys": [] }));
}

#[test]
fn keys_that_are_none_are_refused() {
    let env = Env::seeded(1);
    let key = Signer::rs256_pem(PRIVATE).unwrap().jwks()["keys"][0].clone();
    let mut encrypts = key.clone();
    encrypts["use"] = json!("enc");
    let mut other = key.clone();
    other["alg"] = json!("RS512");
    let too_many: Vec<_> = std::iter::repeat_n(key, KEYS_MAX + 1).collect();
    for document in [
        "".to_owned(),
        "[]".to_owned(),
        json!({ "keys": [] }).to_string(),
        json!({ "keys": [encrypts] }).to_string(),
        json!({ "keys": [other] }).to_string(),
        json!({ "keys": [{ "kty": "RSA", "n": "AQAB", "e": "AQAB" }] }).to_string(),
        json!({ "keys": too_many }).to_string(),
    ] {
        let error = Verifier::jwks(&document, env.clone()).unwrap_err();
        assert_eq!(error.code(), "key_invalid", "{document:.60}");
    }
    assert!(Verifier::rs256_pem(SHORT, env.clone()).is_err());
    assert!(Verifier::rs256_pem(PRIVATE, env).is_err());
    assert!(Signer::rs256_pem(PUBLIC).is_err());
}

#[test]
fn nothing_secret_is_printed() {
    let (signer, verifier, ..) = hs256();
    let rsa = Signer::rs256_pem(PRIVATE).unwrap();
    for text in [
        format!("{signer:?}"),
        format!("{verifier:?}"),
        format!("{rsa:?}"),
    ] {
        assert!(
            !text.contains("0123456789abcdef") && !text.contains("48, 49, 50"),
            "{text}"
        );
        assert!(text.len() < 200, "{text}");
    }
}
