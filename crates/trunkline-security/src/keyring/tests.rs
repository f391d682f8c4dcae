use std::collections::BTreeMap;

use proptest::prelude::*;
use trunkline_core::{ErrorKind, Retry};

use super::*;

fn secret(byte: u8) -> Secret {
    Secret::new(vec![byte; 32]).unwrap()
}

fn ring(seals: &str, keys: &[(&str, u8)]) -> Keyring {
    let keys = keys.iter().map(|(id, byte)| ((*id).into(), secret(*byte)));
    Keyring::new(seals, keys.collect::<Vec<_>>(), Env::seeded(1)).unwrap()
}

#[test]
fn what_is_sealed_opens_where_it_was_bound_to() {
    let keys = ring("a", &[("a", 1)]);
    let sealed = keys.seal_text(b"DE89", b"user/iban/7").unwrap();
    assert!(sealed.starts_with("s1:a:"), "{sealed}");
    assert!(!sealed.contains("DE89"));
    assert_eq!(keys.open_text(&sealed, b"user/iban/7").unwrap(), b"DE89");
    let moved = keys.open_text(&sealed, b"user/iban/8").unwrap_err();
    assert_eq!(moved.code(), "sealed_invalid");
    assert_eq!(moved.retry(), Retry::Permanent);
    let again = keys.seal_text(b"DE89", b"user/iban/7").unwrap();
    assert_ne!(sealed, again, "equal data looks different each time");
}

#[test]
fn a_rotation_opens_the_old_and_seals_with_the_new() {
    let old = ring("a", &[("a", 1)]);
    let both = ring("b", &[("a", 1), ("b", 2)]);
    let new = ring("b", &[("b", 2)]);
    let sealed = old.seal_text(b"x", b"").unwrap();
    assert_eq!(both.open_text(&sealed, b"").unwrap(), b"x");
    assert!(!both.is_current(&sealed).unwrap());
    let resealed = both.seal_text(b"x", b"").unwrap();
    assert!(new.is_current(&resealed).unwrap());
    assert_eq!(new.open_text(&resealed, b"").unwrap(), b"x");
    let missing = new.open_text(&sealed, b"").unwrap_err();
    assert_eq!(missing.code(), "sealing_key_missing");
    assert_eq!(missing.retry(), Retry::Transient);
    let other = ring("a", &[("a", 9)]);
    let wrong = other.open_text(&sealed, b"").unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Corrupt);
}

#[test]
fn rings_that_make_no_sense_are_refused() {
    let make = |seals: &str, ids: &[&str]| {
        let keys: Vec<_> = ids.iter().map(|id| ((*id).into(), secret(1))).collect();
        Keyring::new(seals, keys, Env::seeded(1))
    };
    let many: Vec<String> = (0..=KEYS_MAX).map(|n| format!("k{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(make("a", &["a"]).is_ok());
    for (seals, ids) in [
        ("b", &["a"][..]),
        ("a", &["a", "a"]),
        ("a b", &["a b"]),
        ("", &[""]),
        ("a:b", &["a:b"]),
        ("k0", &many),
    ] {
        let error = make(seals, ids).unwrap_err();
        assert_eq!(error.code(), "key_invalid", "{ids:?}");
    }
    let long = Secret::new(vec![1; 33]).unwrap();
    assert!(Keyring::new("a", [("a".into(), long)], Env::seeded(1)).is_err());
}

#[test]
fn keys_come_from_files_and_variables_and_are_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let kept = Secret::load_or_create(&path, &Env::system()).unwrap();
    let text = URL_SAFE_NO_PAD.encode([7; 32]);
    let variable = |name: &str| (name == "KEY").then(|| text.clone());
    let place = |of: &str| {
        let open = BTreeMap::from([
            ("f".to_owned(), format!("file:{}", path.display())),
            ("e".to_owned(), of.to_owned()),
        ]);
        KeyringConfig::new("f", open)
    };
    let keys = Keyring::load(&place("env:KEY"), variable, Env::seeded(1)).unwrap();
    let sealed = ring("e", &[("e", 7)]).seal_text(b"x", b"").unwrap();
    assert_eq!(keys.open_text(&sealed, b"").unwrap(), b"x");
    let printed = format!("{keys:?}");
    assert_eq!(
        printed,
        "Keyring { seals: \"f\", opens: [\"e\", \"f\"], .. }"
    );
    assert!(!printed.contains(&URL_SAFE_NO_PAD.encode(kept.bytes())));
    for wrong in ["env:NONE", "file:/nowhere", &text, "vault:x"] {
        let error = Keyring::load(&place(wrong), variable, Env::seeded(1)).unwrap_err();
        let said = format!("{error:?}");
        assert!(said.contains("key: e") && !said.contains(&text), "{said}");
    }
}

proptest! {
    #[test]
    fn a_changed_byte_anywhere_is_refused(
        data in proptest::collection::vec(any::<u8>(), 0..64), flip in 1_u8..=255, bit in 0_usize..8
    ) {
        let keys = ring("key-1", &[("key-1", 1)]);
        let sealed = keys.seal_text(&data, b"place").unwrap().into_bytes();
        for at in 0..sealed.len() {
            for mask in [flip, 1 << bit] {
                let mut changed = sealed.clone();
                changed[at] ^= mask;
                if let Ok(changed) = String::from_utf8(changed) {
                    prop_assert!(keys.open_text(&changed, b"place").is_err(), "byte {at}");
                }
            }
        }
        for length in 0..sealed.len() {
            let cut = std::str::from_utf8(&sealed[..length]).unwrap();
            prop_assert!(keys.open_text(cut, b"place").is_err(), "cut at {length}");
        }
    }

    #[test]
    fn any_text_is_refused_without_a_panic(text in ".{0,80}") {
        let keys = ring("a", &[("a", 1)]);
        prop_assert!(keys.open_text(&text, b"").is_err());
        let marked = format!("s1:a:{text}");
        prop_assert!(keys.open_text(&marked, b"").is_err());
    }
}
