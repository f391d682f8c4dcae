use super::*;

fn way(name: &'static str, host: HostRule, prefix: &str, methods: &[Method]) -> Way<&'static str> {
    Way {
        host,
        prefix: prefix.to_owned(),
        methods: methods.to_vec(),
        target: name,
    }
}

fn found<'a>(table: &'a Table<&'static str>, host: &str, path: &str, method: &Method) -> &'a str {
    match table.find(host, path, method) {
        Found::Target { target, .. } => target,
        Found::WrongMethod(_) => "wrong method",
        Found::Nothing => "nothing",
    }
}

#[test]
fn the_longest_prefix_wins_whatever_the_order() {
    let table = Table::new(vec![
        way("all", HostRule::Any, "/", &[]),
        way("api", HostRule::Any, "/api", &[]),
        way("orders", HostRule::Any, "/api/v1/orders", &[]),
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
    let host = HostRule::Exact("shop.example.com".to_owned());
    let below = HostRule::Below(".example.com".to_owned());
    let table = Table::new(vec![
        way("long", HostRule::Any, "/api/very/long", &[]),
        way("below", below, "/api", &[]),
        way("exact", host.clone(), "/api", &[]),
        way("exact post", host, "/api", &[Method::POST]),
    ]);
    let at = |host, method| found(&table, host, "/api/very/long", &method);
    assert_eq!(at("shop.example.com", Method::GET), "exact");
    assert_eq!(at("SHOP.example.com", Method::POST), "exact post");
    assert_eq!(at("x.example.com", Method::GET), "below");
    assert_eq!(at("example.com", Method::GET), "long");
    assert_eq!(
        at(".example.com", Method::GET),
        "long",
        "nothing before the dot"
    );
}

#[test]
fn a_wrong_method_is_told_what_there_is() {
    let table = Table::new(vec![
        way("read", HostRule::Any, "/a", &[Method::GET]),
        way("write", HostRule::Any, "/a", &[Method::POST, Method::GET]),
    ]);
    let Found::WrongMethod(methods) = table.find("h", "/a", &Method::PUT) else {
        panic!("expected a wrong method");
    };
    assert_eq!(methods, [Method::GET, Method::POST]);
    assert_eq!(table.find("h", "/b", &Method::GET), Found::Nothing);
}
