use proptest::prelude::*;
use trunkline_core::{Arrival, Context, Dialect, Env, Kind, Priority, Retry, Timestamp, Version};

use super::*;
use crate::Secret;

fn sealer(seals: &str, keys: &[(&str, u8)]) -> EventSealer {
    let key = |(id, byte): &(&str, u8)| ((*id).into(), Secret::new(vec![*byte; 32]).unwrap());
    let keys: Vec<_> = keys.iter().map(key).collect();
    EventSealer::new(Keyring::new(seals, keys, Env::seeded(1)).unwrap())
}

fn event(data: &[u8]) -> Envelope {
    let env = Env::seeded(1);
    let context = Context::root(&env);
    Envelope {
        id: "e-1".into(),
        event_type: "payment.captured".into(),
        version: Version::new(1, 0),
        source: "payment-service".into(),
        time: Timestamp::UNIX_EPOCH,
        topic: "payment-events".into(),
        key: Some("order-1".into()),
        correlation_id: context.correlation_id,
        causation_id: None,
        trace: None,
        user_id: None,
        kind: Kind::Domain,
        priority: Priority::Medium,
        content_type: "application/json".into(),
        extensions: Vec::new(),
        data: data.to_vec().into(),
    }
}

fn sealed(by: &EventSealer, data: &[u8]) -> Envelope {
    let mut event = event(data);
    by.seal(&mut event).unwrap();
    event
}

fn code(by: &EventSealer, event: &Envelope) -> String {
    let mut event = event.clone();
    by.open(&mut event, true).unwrap_err().code().to_owned()
}

#[test]
fn an_event_opens_as_it_was() {
    let keys = sealer("k1", &[("k1", 1)]);
    let plain = event(br#"{"card":"4111"}"#);
    let mut travelled = sealed(&keys, br#"{"card":"4111"}"#);
    assert!(travelled.is_sealed() && travelled.is_json());
    assert!(!String::from_utf8_lossy(&travelled.data).contains("4111"));
    let once = travelled.clone();
    keys.seal(&mut travelled).unwrap();
    assert_eq!(travelled, once, "it is not sealed twice");
    keys.open(&mut travelled, true).unwrap();
    assert_eq!(travelled, plain);
    keys.open(&mut travelled, false).unwrap();
    assert_eq!(travelled, plain);
}

#[test]
fn every_dialect_carries_it() {
    let keys = sealer("k1", &[("k1", 1)]);
    let event = sealed(&keys, br#"{"card":"4111"}"#);
    for dialect in Dialect::ALL {
        let text = dialect.write(&event).unwrap();
        let arrival = Arrival::new("payment-events", Timestamp::UNIX_EPOCH);
        let mut read = dialect.read(text, &arrival).unwrap();
        keys.open(&mut read, true).unwrap();
        assert_eq!(read.data, &br#"{"card":"4111"}"#[..], "{dialect}");
        assert_eq!(read.content_type, "application/json");
    }
}

/// Made with jwcrypto 1.6, a JOSE library of Python, from the key of 32 bytes 1.
const BY_ANOTHER: &str = r#"{"aad":"WyAiZS0xIiwgInBheW1lbnQuY2FwdHVyZWQiLCAiMS4wIiwgInBheW1lbnQtc2VydmljZSIsICJvcmRlci0xIiBd","ciphertext":"gxVugNn017crBnVnuXxO","iv":"oC5u-f6E-JrTYe6y","protected":"eyJ0eXAiOiAiSldFIiwgImtpZCI6ICJrMSIsICJlbmMiOiAiQTI1NkdDTSIsICJhbGciOiAiZGlyIiwgImN0eSI6ICJhcHBsaWNhdGlvbi9qc29uIn0","tag":"P1tryxqmnxbb1DXjxhsK4g"}"#;

#[test]
fn what_another_library_sealed_opens() {
    let keys = sealer("k1", &[("k1", 1)]);
    let mut theirs = event(BY_ANOTHER.as_bytes());
    theirs.content_type = Envelope::SEALED.into();
    keys.open(&mut theirs, true).unwrap();
    assert_eq!(theirs, event(br#"{"card":"4111"}"#));
}

#[test]
fn it_opens_in_no_other_event() {
    let keys = sealer("k1", &[("k1", 1)]);
    let event = sealed(&keys, b"{}");
    let changes: [fn(&mut Envelope); 6] = [
        |event| event.id = "e-2".into(),
        |event| event.event_type = "payment.failed".into(),
        |event| event.version = Version::new(1, 1),
        |event| event.source = "order-service".into(),
        |event| event.key = Some("order-2".into()),
        |event| event.key = None,
    ];
    for change in changes {
        let mut moved = event.clone();
        change(&mut moved);
        assert_eq!(code(&keys, &moved), "sealed_invalid");
        let left = moved.data.clone();
        assert!(keys.open(&mut moved, true).is_err());
        assert_eq!(moved.data, left, "what does not open stays as it is");
    }
}

#[test]
fn a_wrong_key_and_a_missing_one_are_told_apart() {
    let old = sealer("k1", &[("k1", 1)]);
    let mut event = sealed(&old, b"{}");
    let rotated = sealer("k2", &[("k1", 1), ("k2", 2)]);
    assert!(rotated.open(&mut event.clone(), true).is_ok());
    assert!(old.open(&mut sealed(&rotated, b"{}"), true).is_err());
    assert_eq!(code(&sealer("k1", &[("k1", 9)]), &event), "sealed_invalid");
    let gone = sealer("k2", &[("k2", 2)]);
    let error = gone.open(&mut event, true).unwrap_err();
    assert_eq!(error.code(), "sealing_key_missing");
    assert_eq!(error.retry(), Retry::Transient);
}

#[test]
fn what_must_be_sealed_and_is_not_is_refused() {
    let keys = sealer("k1", &[("k1", 1)]);
    let mut plain = event(b"{}");
    assert_eq!(code(&keys, &plain), "event_unsealed");
    assert!(keys.open(&mut plain.clone(), false).is_ok());
    let lenient = keys.accept_unsealed(true);
    assert!(lenient.open(&mut plain, true).is_ok());
}

#[test]
fn a_header_that_asks_for_something_else_is_refused() {
    let keys = sealer("k1", &[("k1", 1)]);
    let event = sealed(&keys, b"{}");
    let jwe: Value = serde_json::from_slice(&event.data).unwrap();
    for header in [
        json!({ "alg": "none", "enc": "A256GCM", "kid": "k1", "cty": "" }),
        json!({ "alg": "dir", "enc": "A128CBC-HS256", "kid": "k1", "cty": "" }),
        json!({ "alg": "dir", "enc": "A256GCM", "kid": "k1", "cty": "", "zip": "DEF" }),
        json!({ "alg": "dir", "enc": "A256GCM", "kid": "k1", "cty": "", "crit": ["x"] }),
        json!({ "alg": "dir", "enc": "A256GCM", "cty": "" }),
        json!({ "alg": "dir", "enc": "A256GCM", "kid": "k 1\n", "cty": "" }),
        json!([]),
    ] {
        let mut changed = jwe.clone();
        changed["protected"] = BASE64.encode(header.to_string()).into();
        let mut event = event.clone();
        event.data = changed.to_string().into();
        assert_eq!(code(&keys, &event), "sealed_malformed", "{header}");
    }
    for data in ["", "{}", "[1]", "\"x\"", "nonsense"] {
        let mut event = event.clone();
        event.data = data.into();
        assert_eq!(code(&keys, &event), "sealed_malformed", "{data}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_changed_byte_anywhere_is_refused(
        data in proptest::collection::vec(any::<u8>(), 0..48), flip in 1_u8..=255, bit in 0_usize..8
    ) {
        let keys = sealer("k1", &[("k1", 1)]);
        let sealed = sealed(&keys, &data);
        for at in 0..sealed.data.len() {
            for mask in [flip, 1 << bit] {
                let mut bytes = sealed.data.to_vec();
                bytes[at] ^= mask;
                let mut changed = sealed.clone();
                changed.data = bytes.into();
                prop_assert!(keys.open(&mut changed, true).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn any_data_comes_back(data in proptest::collection::vec(any::<u8>(), 0..2048)) {
        let keys = sealer("k1", &[("k1", 1)]);
        let mut event = sealed(&keys, &data);
        keys.open(&mut event, true).unwrap();
        prop_assert_eq!(&event.data[..], &data[..]);
    }
}
