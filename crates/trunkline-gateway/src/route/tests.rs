use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::fuzzing::tried;

fn name(text: &str) -> HostRule {
    let name = match text {
        "" => Name::Any,
        text => match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(end), _) => Name::Below(end.to_owned()),
            (_, Some(begin)) => Name::Above(begin.to_owned()),
            _ => Name::Exact(text.to_owned()),
        },
    };
    HostRule { name, port: None }
}

fn way<T>(target: T, host: &str, path: &str, methods: &[Method]) -> Way<T> {
    Way {
        host: name(host),
        path: match path.strip_prefix('~') {
            Some(pattern) => PathRule::regex(pattern).unwrap(),
            None => PathRule::Prefix(path.to_owned()),
        },
        methods: methods.to_vec(),
        headers: Vec::new(),
        snis: Vec::new(),
        regex_priority: 0,
        target,
    }
}

fn asked<'a>(
    host: &'a str,
    path: &'a str,
    method: &'a Method,
    headers: &'a HeaderMap,
) -> Asked<'a> {
    Asked {
        host,
        port: 80,
        path,
        method,
        headers,
        sni: None,
    }
}

fn found<'a>(table: &'a Table<&'static str>, host: &str, path: &str, method: &Method) -> &'a str {
    match table.find(asked(host, path, method, &HeaderMap::new())) {
        Found::Target { target, .. } => target,
        Found::WrongMethod(_) => "wrong method",
        Found::Nothing => "nothing",
    }
}

#[test]
fn the_longest_prefix_wins_whatever_the_order() {
    let table = Table::new(vec![
        way("all", "", "/", &[]),
        way("api", "", "/api", &[]),
        way("orders", "", "/api/v1/orders", &[]),
    ]);
    let get = Method::GET;
    assert_eq!(found(&table, "h", "/api/v1/orders/1", &get), "orders");
    assert_eq!(found(&table, "h", "/api/v1/order", &get), "api");
    assert_eq!(
        found(&table, "h", "/apis", &get),
        "api",
        "a prefix of text, as in Kong"
    );
    assert_eq!(found(&table, "h", "/x", &get), "all");
}

#[test]
fn who_asks_for_more_comes_first() {
    let table = Table::new(vec![
        way("long", "", "/api/very/long", &[]),
        way("below", "*.example.com", "/api", &[]),
        way("above", "shop.*", "/api", &[]),
        way("exact", "shop.example.com", "/api", &[]),
        way("exact post", "shop.example.com", "/api", &[Method::POST]),
    ]);
    let at = |host, method| found(&table, host, "/api/very/long", &method);
    assert_eq!(at("shop.example.com", Method::GET), "exact");
    assert_eq!(at("SHOP.example.com", Method::POST), "exact post");
    assert_eq!(at("x.example.com", Method::GET), "below");
    assert_eq!(at("a.b.example.com", Method::GET), "below");
    assert_eq!(at("shop.example.org", Method::GET), "above");
    assert_eq!(at("example.com", Method::GET), "long");
    assert_eq!(
        at(".example.com", Method::GET),
        "long",
        "nothing before the dot"
    );
    assert_eq!(at("shop.", Method::GET), "long", "nothing after the dot");
}

#[test]
fn expressions_go_before_prefixes_by_their_priority() {
    let mut low = way("low", "", "~/orders/(?<id>\\d+)", &[]);
    low.regex_priority = 1;
    let mut high = way("high", "", "~/orders/(?<id>\\d+)/items$", &[]);
    high.regex_priority = 2;
    let prefix = way("prefix", "", "/orders/12/items/7/much/longer", &[]);
    let table = Table::new(vec![prefix, low, high]);
    let at = |path| found(&table, "h", path, &Method::GET);
    assert_eq!(at("/orders/12/items"), "high");
    assert_eq!(at("/orders/12/items/7/much/longer"), "low");
    assert_eq!(at("/orders/x"), "nothing");
    assert_eq!(at("/v1/orders/12"), "nothing", "from the beginning alone");
    let whole = table.find(asked(
        "h",
        "/orders/12/rest",
        &Method::GET,
        &HeaderMap::new(),
    ));
    assert!(
        matches!(whole, Found::Target { matched: 10, .. }),
        "{whole:?}"
    );
}

#[test]
fn headers_ports_and_names_of_tls_are_asked_for() {
    let header = |values: &[&str], pattern: Option<&str>| HeaderRule {
        name: HeaderName::from_static("x-version"),
        values: values.iter().map(|&value| value.to_owned()).collect(),
        patterns: pattern
            .map(|pattern| Regex::new(pattern).unwrap())
            .into_iter()
            .collect(),
    };
    let mut exact = way("exact", "", "/", &[]);
    exact.headers = vec![header(&["2", "beta"], None)];
    let mut pattern = way("pattern", "", "/", &[]);
    pattern.headers = vec![header(&[], Some("^3\\."))];
    let mut port = way("port", "h", "/", &[]);
    port.host.port = Some(8443);
    let mut sni = way("sni", "", "/", &[]);
    sni.snis = vec!["secret.example.com".to_owned()];
    let table = Table::new(vec![exact, pattern, port, sni, way("plain", "", "/", &[])]);
    let at = |version: Option<&'static str>, port, sni| {
        let mut headers = HeaderMap::new();
        if let Some(version) = version {
            headers.insert("x-version", HeaderValue::from_static(version));
        }
        let get = Method::GET;
        let asked = Asked {
            port,
            sni,
            ..asked("h", "/x", &get, &headers)
        };
        match table.find(asked) {
            Found::Target { target, .. } => *target,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(at(Some("BETA"), 80, Some("other")), "exact");
    assert_eq!(at(Some("3.1"), 80, Some("other")), "pattern");
    assert_eq!(at(None, 8443, Some("other")), "port");
    assert_eq!(at(None, 80, Some("Secret.example.com")), "sni");
    assert_eq!(at(None, 80, Some("other")), "plain");
    assert_eq!(
        at(None, 80, None),
        "sni",
        "without TLS every name fits, as in Kong"
    );
}

#[test]
fn a_wrong_method_is_told_what_there_is() {
    let table = Table::new(vec![
        way("read", "", "/a", &[Method::GET]),
        way("write", "", "/a", &[Method::POST, Method::GET]),
    ]);
    let headers = HeaderMap::new();
    let Found::WrongMethod(methods) = table.find(asked("h", "/a", &Method::PUT, &headers)) else {
        panic!("expected a wrong method");
    };
    assert_eq!(methods, [Method::GET, Method::POST]);
    let nothing = table.find(asked("h", "/b", &Method::GET, &headers));
    assert!(matches!(nothing, Found::Nothing), "{nothing:?}");
}

#[test]
fn what_an_expression_begins_with_is_certain() {
    for (pattern, literal) in [
        ("/orders/(?<id>\\d+)", "/orders/"),
        ("/a\\.b/c$", "/a.b/c"),
        ("/ab?c", "/a"),
        ("/ab{2}", "/a"),
        ("/ab*", "/a"),
        ("/a|/b", ""),
        ("/x(a|b)", "/x"),
        ("/x\\d", "/x"),
        ("[/]x", ""),
        ("(?i)/x", ""),
    ] {
        assert_eq!(literal_of(pattern), literal, "{pattern}");
    }
    for wrong in ["(", "/(?=x)", "/a{100000}{100000}"] {
        assert!(PathRule::regex(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn it_finds_what_trying_one_by_one_finds(
        ways in prop::collection::vec(
            (
                prop::sample::select(vec!["", "a.b", "*.b", "*.a.b", "a.*", "b"]),
                prop::sample::select(vec!["", "/", "/x", "/x/y", "/xy", "~/x/[yz]", "~/x?y", "~/x/y|/z", "~/[a-z]+/y"]),
                prop::sample::select(vec![0_u8, 1, 2, 3]),
            ),
            0..12,
        ),
        host in prop::sample::select(vec!["a.b", "c.a.b", "b", "x.b", "a.c", ".b"]),
        path in prop::sample::select(vec!["/", "/x", "/x/y", "/x/z", "/xy", "/y", "/z", "/abc/y"]),
    ) {
        let methods = |mask: u8| [Method::GET, Method::POST].into_iter().enumerate()
            .filter(|(bit, _)| mask & (1 << bit) != 0).map(|(_, method)| method).collect::<Vec<_>>();
        let ways: Vec<_> = ways.into_iter()
            .map(|(host, path, mask)| (host.to_owned(), path.to_owned(), methods(mask))).collect();
        let made = || ways.iter().enumerate().map(|(at, (host, path, methods))| way(at, host, path, methods));
        let table = Table::new(made().collect());
        let found = match table.find(asked(host, path, &Method::GET, &HeaderMap::new())) {
            Found::Target { target, .. } => Some(*target),
            _ => None,
        };
        prop_assert_eq!(found, tried(made().collect(), host, path, &Method::GET));
    }
}

#[test]
fn ten_thousand_routes_are_no_slower_than_ten() {
    let table = |many: usize| {
        let ways = (0..many).map(|at| way(at, "", &format!("/service-{at}/api"), &[]));
        Table::new(ways.collect())
    };
    // Counted, not timed: how many lists of ways a request looks at.
    let (few, many) = (table(10), table(10_000));
    let looks = |table: &Table<usize>| {
        let mut looks = 0;
        table.hosts.each("h", |trie| {
            trie.each("/service-7/api/x", |ways| looks += ways.len())
        });
        looks
    };
    assert_eq!((looks(&few), looks(&many)), (1, 1));
}
