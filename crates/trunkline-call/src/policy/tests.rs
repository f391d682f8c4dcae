//! What a configuration means, and what is refused.

use super::*;

fn read(text: &str) -> Policies {
    toml::from_str(text).unwrap()
}

fn refusal(text: &str) -> String {
    toml::from_str::<Policies>(text).unwrap_err().to_string()
}

#[test]
fn the_exact_counts_before_the_general_and_the_configuration_before_the_declaration() {
    let declared = Target::new()
        .calls(Operation::new().timeout(Duration::from_millis(700)))
        .operation(
            "POST /api/v1/payments".parse().unwrap(),
            Operation::new().timeout(Duration::from_secs(30)).no_retry(),
        );
    let policies = read(
        r#"
        ["*"]
        timeout_ms = 900
        retry_max_ms = 4_000
        [other]
        timeout_ms = 800
        ["payments"."POST /api/v1/payments"]
        timeout_ms = 20_000
        ["payments"."GET /api/v1/{*rest}"]
        coalesce = true
        ["payments"."GET /api/v1/payments/{id}"]
        hedge_after_ms = 50
        "#,
    )
    .declare("payments", declared);
    let payments = policies.of("payments");
    let pay = payments.operation("POST", "/api/v1/payments");
    assert_eq!((pay.timeout.as_secs(), pay.attempts_max), (20, 1));
    assert_eq!(pay.retry_max, Duration::from_secs(4));
    let rest = payments.operation("GET", "/api/v1/x/y");
    assert!(rest.coalesce && rest.timeout == Duration::from_millis(700));
    let one = payments.operation("GET", "/api/v1/payments/7");
    assert_eq!(one.hedge_after, Some(Duration::from_millis(50)));
    assert!(!one.coalesce, "one operation, the most exact, counts");
    let other = payments.operation("DELETE", "/api/v1/payments");
    assert_eq!(other.attempts_max, 3);
    assert_eq!(
        policies
            .of("other")
            .operation("GET", "/")
            .timeout
            .as_millis(),
        800
    );
    assert_eq!(
        policies
            .of("third")
            .operation("GET", "/")
            .timeout
            .as_millis(),
        900
    );
    assert_eq!(payments.timeout_max().as_secs(), 20);
    assert_eq!(Policies::default().of("x"), TargetPolicy::default());

    // Read anew, what is declared stays.
    let again = policies.configured_by(&read("[payments]\nattempts_max = 2\n"));
    let pay = *again.of("payments").operation("POST", "/api/v1/payments");
    assert_eq!((pay.timeout.as_secs(), pay.attempts_max), (30, 1));
}

#[test]
fn shared_settings_are_of_the_target() {
    let text = r#"
        [stock]
        budget = { percent = 20, saved_max = 3 }
        breaker = { failures_max = 2, reset_ms = 500, rate_percent = 0 }
        bulkhead = { in_flight_max = 7 }
        cache_bytes_max = 0
    "#;
    let stock = read(text).of("stock");
    assert_eq!((stock.budget.percent, stock.budget.per_second), (20, 1));
    assert_eq!(stock.breaker.failures_max, 2);
    assert_eq!(stock.breaker.rate_reset, Duration::from_secs(30));
    assert_eq!(
        (stock.bulkhead.in_flight_max, stock.bulkhead.waiting_max),
        (7, 512)
    );
    assert_eq!(stock.cache_bytes_max, 0);
}

#[test]
fn a_mistake_is_told_with_its_line_and_what_was_expected() {
    let cases = [
        (
            "[a]\ntimeout_ms = 5\ntimeout = 5\n",
            "line 3",
            "expected one of `timeout_ms`",
        ),
        ("[a]\ntimeout_ms = \"soon\"\n", "line 2", "u64"),
        (
            "[a]\ntimeout_ms = 0\n",
            "line 1",
            "expected `timeout_ms` from 1",
        ),
        (
            "[a]\n[a.\"GET /x\"]\nattempts = 2\n",
            "line 3",
            "expected one of",
        ),
        (
            "[a]\n[a.\"GET /x\"]\nattempts_max = 99\n",
            "line",
            "from 1 to 10",
        ),
        (
            "[a]\n[a.\"fetch /x\"]\nattempts_max = 2\n",
            "line 2",
            "GET /api/v1/products/{id}",
        ),
        (
            "[a]\n[a.\"GET /x\"]\nbreaker = { probes = 2 }\n",
            "line",
            "the whole target",
        ),
        (
            "[a]\nbreaker = { probe = 2 }\n",
            "line 2",
            "expected one of `failures_max`",
        ),
    ];
    for (text, line, expected) in cases {
        let told = refusal(text);
        assert!(
            told.contains(line) && told.contains(expected),
            "{text}: {told}"
        );
    }
}

#[test]
fn an_operation_fits_its_calls_and_no_others() {
    let fits = |name: &str, method: &str, path: &str| {
        let name: OperationName = name.parse().unwrap();
        name.fits(method, path)
    };
    assert!(fits("GET /a/{id}", "GET", "/a/7"));
    assert!(!fits("GET /a/{id}", "POST", "/a/7"));
    assert!(!fits("GET /a/{id}", "GET", "/a/"));
    assert!(!fits("GET /a/{id}", "GET", "/a/7/b"));
    assert!(!fits("GET /a/{id}", "GET", "/a"));
    assert!(fits("GET /a/{*rest}", "GET", "/a/7/b"));
    assert!(!fits("GET /a/{*rest}", "GET", "/a/"));
    assert!(fits("GET /", "GET", "/"));
    assert!(fits(
        "shop.v1.Stock/Reserve",
        "POST",
        "/shop.v1.Stock/Reserve"
    ));
    assert!(!fits(
        "shop.v1.Stock/Reserve",
        "GET",
        "/shop.v1.Stock/Reserve"
    ));
    for name in [
        "GET /a/{id}",
        "GET /a/{*rest}",
        "shop.v1.Stock/Reserve",
        "POST /",
    ] {
        assert_eq!(name.parse::<OperationName>().unwrap().to_string(), name);
    }
    let bad = [
        "",
        "GET",
        "GET a",
        "get /a",
        "GET /{",
        "GET /{}",
        "GET /{*r}/a",
        "a",
        "a/b/c",
        "/a/{b}",
        "GET /a?b=1",
    ];
    for name in bad {
        assert!(name.parse::<OperationName>().is_err(), "{name}");
    }
}
