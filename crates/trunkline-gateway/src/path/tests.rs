use proptest::prelude::*;

use super::*;

#[test]
fn each_path_has_one_spelling() {
    for (given, expected) in [
        ("/", "/"),
        ("/api/v1/orders", "/api/v1/orders"),
        ("/api/", "/api/"),
        ("//", "/"),
        ("/api//v1///orders", "/api/v1/orders"),
        ("/plain/../api/x", "/api/x"),
        ("/plain/./x/.", "/plain/x/"),
        ("/plain/x/..", "/plain/"),
        ("/plain/%2e%2e/api/x", "/api/x"),
        ("/plain/.%2E/api", "/api"),
        ("/%61%70i", "/api"),
        ("/%7Euser", "/~user"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%20b%c3%bc", "/a%20b%C3%BC"),
        ("/ü", "/%C3%BC"),
        ("/a;v=1/b", "/a;v=1/b"),
        ("/%252e%252e/x", "/%252e%252e/x"),
        ("/...", "/..."),
        ("/.well-known/x", "/.well-known/x"),
        ("/a..b", "/a..b"),
        ("/v1.2%2F3", "/v1.2%2F3"),
    ] {
        assert_eq!(normalise(given).unwrap(), expected, "{given}");
    }
}

#[test]
fn what_could_be_taken_for_something_else_is_refused() {
    for given in [
        "",
        "api",
        "*",
        "/..",
        "/a/../..",
        "/%2e%2e/x",
        "/a/..;/b",
        "/a/..;x=1/b",
        "/a/..%3b/b",
        "/a/..%2fb",
        "/a/%2e%2e%2Fb",
        "/a/b%2f..",
        "/a/..%5cb",
        "/a/.%5c",
        "/a\\b",
        "/a%00b",
        "/a%0d%0ab",
        "/a%7f",
        "/a%",
        "/a%2",
        "/a%zz",
        "/a\u{7f}",
    ] {
        let error = normalise(given).unwrap_err();
        assert_eq!(error.code(), "path_invalid", "{given}");
    }
}

/// Pieces that matter, in any order, and any text between.
fn paths() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/".to_owned()),
        Just(".".to_owned()),
        Just("..".to_owned()),
        Just("%2e".to_owned()),
        Just("%2E".to_owned()),
        Just("%2f".to_owned()),
        Just("%5C".to_owned()),
        Just("%25".to_owned()),
        Just("%3b".to_owned()),
        Just(";".to_owned()),
        Just("\\".to_owned()),
        Just("api".to_owned()),
        Just("open".to_owned()),
        "[ -~]{0,3}",
        "\\PC{0,2}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// What a careless upstream could make of a path: everything decoded once, backslashes for slashes, path
/// parameters cut off.
fn careless(path: &str) -> Vec<String> {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes).replace('\\', "/");
    let name = |part: &str| part.split(';').next().unwrap_or_default().to_owned();
    text.split('/').map(name).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn nothing_slips_past(path in paths()) {
        if let Ok(normal) = normalise(&path) {
            prop_assert!(normal.starts_with('/'));
            prop_assert!(!normal.contains("//"), "{}", normal);
            prop_assert!(normal.bytes().all(|byte| byte.is_ascii_graphic()), "{}", normal);
            prop_assert_eq!(&normalise(&normal).unwrap(), &normal, "not settled");
            let seen = careless(&normal);
            prop_assert!(!seen.iter().any(|part| part == "." || part == ".."), "{} as {:?}", normal, seen);
        }
    }

    #[test]
    fn a_prefix_holds_whoever_reads_it(path in paths()) {
        // What is routed to /open must not be something that an upstream resolves to /api.
        if let Ok(normal) = normalise(&format!("/open{path}"))
            && normal.starts_with("/open/")
        {
            let mut kept: Vec<String> = Vec::new();
            for part in careless(&normal) {
                match part.as_str() {
                    "" | "." => {}
                    ".." => drop(kept.pop()),
                    _ => kept.push(part),
                }
            }
            prop_assert_eq!(kept.first().map(String::as_str), Some("open"), "{}", normal);
        }
    }
}
