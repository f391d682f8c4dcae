use std::time::Duration;

use super::super::{Policies, TargetPolicy};
use super::*;

const MILLI: Duration = Duration::from_millis(1);

const FILE: &str = r#"{
    "methodConfig": [
        { "name": [{}], "timeout": "1s" },
        {
            "name": [{ "service": "shop.v1.Stock" }, { "service": "shop.v1.Prices", "method": "List" }],
            "timeout": "0.25s",
            "waitForReady": false,
            "retryPolicy": {
                "maxAttempts": 9,
                "initialBackoff": "0.0100s",
                "maxBackoff": "2s",
                "backoffMultiplier": 1.5,
                "retryableStatusCodes": ["UNAVAILABLE", 10, "aborted"],
                "perAttemptRecvTimeout": "0.1s"
            }
        },
        {
            "name": [{ "service": "shop.v1.Stock", "method": "Look" }],
            "hedgingPolicy": { "maxAttempts": 2, "hedgingDelay": "0.0301s" }
        }
    ],
    "retryThrottling": { "maxTokens": 11, "tokenRatio": 0.2 }
}"#;

/// A configuration with a file beside it.
fn read(toml: &str, file: &str) -> Result<TargetPolicy> {
    let folder =
        std::env::temp_dir().join(format!("trunkline-{}", trunkline_core::Env::system().id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("config.json");
    std::fs::write(&path, file).unwrap();
    let toml = format!("[stock]\nservice_config = {path:?}\n{toml}");
    let mut policies: Policies = toml::from_str(&toml).unwrap();
    let read = policies.read_files();
    std::fs::remove_dir_all(&folder).unwrap();
    // What was read is not read again.
    read.and_then(|()| policies.read_files())
        .map(|()| policies.of("stock"))
}

#[test]
fn the_most_exact_name_counts_and_nothing_shines_through() {
    let stock = read("", FILE).unwrap();
    let of = |path: &str| *stock.operation("POST", path);
    let all = of("/other.v1.Service/Method");
    assert_eq!(
        (all.timeout, all.attempts_max, all.retry_codes),
        (MILLI * 1_000, 3, None)
    );

    for path in ["/shop.v1.Stock/Reserve", "/shop.v1.Prices/List"] {
        let one = of(path);
        assert_eq!((one.timeout, one.attempts_max), (MILLI * 250, 5), "{path}");
        assert_eq!(
            (one.retry_initial, one.retry_max),
            (MILLI * 10, MILLI * 2_000)
        );
        assert_eq!(
            (one.retry_growth_percent, one.attempt_timeout),
            (150, Some(MILLI * 100))
        );
        let codes = one.retry_codes.unwrap();
        assert_eq!(
            (0..40).filter(|code| codes.has(*code)).collect::<Vec<_>>(),
            [10, 14]
        );
        assert_eq!(one.idempotent, None);
    }
    let look = of("/shop.v1.Stock/Look");
    assert_eq!((look.hedge_after, look.attempts_max), (Some(MILLI * 31), 1));
    assert_eq!((look.idempotent, look.retry_codes), (Some(true), None));
    assert_eq!(look.timeout.as_secs(), 5, "not that of its service");

    let rest = stock.operation("GET", "/api/v1/items");
    assert_eq!(rest.timeout.as_secs(), 5, "it speaks of gRPC alone");
    assert_eq!(
        (
            stock.budget.percent,
            stock.budget.per_second,
            stock.budget.saved_max
        ),
        (20, 0, 5)
    );
}

#[test]
fn what_stands_beside_it_counts_before_it() {
    let own = "budget = { percent = 7 }\n[stock.\"shop.v1.Prices/List\"]\nattempts_max = 2\n";
    let stock = read(own, FILE).unwrap();
    let prices = stock.operation("POST", "/shop.v1.Prices/List");
    assert_eq!((prices.attempts_max, prices.timeout), (2, MILLI * 250));
    assert_eq!((stock.budget.percent, stock.budget.saved_max), (7, 10));
}

fn method(inner: &str) -> String {
    format!(r#"{{ "methodConfig": [{{ "name": [{{ "service": "a.B" }}], {inner} }}] }}"#)
}

fn hedging(inner: &str) -> String {
    method(&format!(r#""hedgingPolicy": {{ {inner} }}"#))
}

fn names(inner: &str) -> String {
    format!(r#"{{ "methodConfig": [{{ "name": [{inner}] }}] }}"#)
}

fn throttling(inner: &str) -> String {
    format!(r#"{{ "retryThrottling": {{ {inner} }} }}"#)
}

/// A good `retryPolicy`, with one thing made otherwise.
fn retry(from: &str, to: &str) -> String {
    let all = r#""retryPolicy": { "maxAttempts": 3, "initialBackoff": "1s", "maxBackoff": "2s",
        "backoffMultiplier": 2, "retryableStatusCodes": [14] }"#;
    assert!(all.contains(from), "{from}");
    method(&all.replace(from, to))
}

/// Each is refused, and the refusal says so much.
fn refused(cases: &[(String, &str)]) {
    for (file, expected) in cases {
        let told = read("", file).unwrap_err().to_string();
        assert!(told.contains(expected), "{file}: {told}");
        let place = told.contains("call.stock") && told.contains("config.json");
        assert!(place, "{told}");
    }
}

#[test]
fn what_no_channel_does_is_refused_by_its_name() {
    let whole = |text: &str| text.to_owned();
    refused(&[
        (
            whole(r#"{ "loadBalancingConfig": [] }"#),
            "loadBalancingConfig",
        ),
        (
            whole(r#"{ "loadBalancingPolicy": "x" }"#),
            "loadBalancingPolicy",
        ),
        (whole(r#"{ "healthCheckConfig": {} }"#), "healthCheckConfig"),
        (whole(r#"{ "methodConfigs": [] }"#), "methodConfigs"),
        (
            method(r#""waitForReady": true"#),
            "methodConfig[0]: `waitForReady`",
        ),
        (
            method(r#""maxRequestMessageBytes": 9"#),
            "maxRequestMessageBytes",
        ),
        (
            method(r#""maxResponseMessageBytes": 9"#),
            "maxResponseMessageBytes",
        ),
        (
            hedging(r#""maxAttempts": 3, "hedgingDelay": "1s""#),
            "no third",
        ),
        (hedging(r#""maxAttempts": 2"#), "`hedgingDelay`"),
        (
            hedging(r#""maxAttempts": 2, "hedgingDelay": "1s", "nonFatalStatusCodes": [14]"#),
            "nonFatalStatusCodes",
        ),
    ]);
}

#[test]
fn what_is_not_as_expected_is_told_with_its_place() {
    let both = r#"}, "hedgingPolicy": { "maxAttempts": 2, "hedgingDelay": "1s" }"#;
    let growth = "\"backoffMultiplier\": 2";
    refused(&[
        ("{".to_owned(), "line 1"),
        ("[".repeat(100_000), "line 1"),
        (method(r#""timeout": "1""#), "`timeout` such as"),
        (method(r#""timeout": "-1s""#), "`timeout` such as"),
        (
            method(r#""timeout": "99999999999999999999s""#),
            "`timeout` such as",
        ),
        (method(r#""timeout": "0s""#), "expected `timeout_ms` from 1"),
        (retry("3", "1"), "`maxAttempts` from 2"),
        (retry("[14]", "[]"), "at least one"),
        (retry("[14]", "[\"OK\"]"), "UNAVAILABLE"),
        (retry("[14]", "[17]"), "from 1 to 16"),
        (
            retry(growth, "\"backoffMultiplier\": 1000"),
            "`backoffMultiplier`",
        ),
        (
            retry(growth, "\"backoffMultiplier\": 0.5"),
            "`backoffMultiplier`",
        ),
        (retry("}", both), "one of"),
        (
            names(r#"{ "service": "a.B" }, { "service": "a.B" }"#),
            "twice",
        ),
        (names(r#"{ "method": "C" }"#), "of a service"),
        (names(r#"{ "service": "a/b" }"#), "a/b"),
        (
            throttling(r#""maxTokens": 0, "tokenRatio": 0.1"#),
            "maxTokens",
        ),
        (
            throttling(r#""maxTokens": 10, "tokenRatio": 2"#),
            "tokenRatio",
        ),
    ]);
}

#[test]
fn a_file_that_is_not_there_or_too_long_is_told() {
    let mut policies: Policies = toml::from_str("[a]\nservice_config = \"none.json\"").unwrap();
    let told = policies.read_files().unwrap_err().to_string();
    assert!(
        told.contains("none.json") && told.contains("call.a"),
        "{told}"
    );
    let long = format!("{{{}}}", " ".repeat(300_000));
    let told = read("", &long).unwrap_err().to_string();
    assert!(told.contains("at most 262144 bytes"), "{told}");
}
