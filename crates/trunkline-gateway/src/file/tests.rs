use super::*;
use crate::config::{Algorithm, HashOn, Protocol, Schemes};

/// The storefront's own example of a Kong file, as its document has it.
const SEED: &str = include_str!("tests/seed.yml");
/// A file in the form that deck writes, with entities at every place that they may have.
const FLAT: &str = include_str!("tests/flat.yml");

fn said(text: &str) -> String {
    Config::parse("kong.yml", text).unwrap_err().to_string()
}

#[test]
fn the_seeds_file_is_read_as_it_stands() {
    let config = Config::parse("seed.yml", SEED).unwrap();
    let [user, product] = &*config.services else {
        panic!("{config:?}");
    };
    let url = user.url.as_ref().unwrap();
    assert_eq!((&*url.host, url.port), ("user-service", 3001));
    assert_eq!(user.routes[0].methods, ["GET", "POST", "PUT", "DELETE"]);
    let names = |plugins: &[PluginConfig]| {
        plugins
            .iter()
            .map(|plugin| plugin.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&user.plugins), ["jwt", "rate-limiting"]);
    assert_eq!(
        names(&product.plugins),
        ["cors", "rate-limiting", "response-cache"]
    );
    assert_eq!(product.plugins[2].config["cache_ttl"], 300);
}

#[test]
fn entities_find_each_other_wherever_they_stand() {
    let config = Config::parse("flat.yml", FLAT).unwrap();
    let service = &config.services[0];
    assert_eq!(service.retries, Some(3));
    assert_eq!(service.url.as_ref().unwrap().protocol, Protocol::Https);
    let routes: Vec<_> = service.routes.iter().map(|route| &*route.name).collect();
    assert_eq!(routes, ["orders-read", "orders-write"]);
    let write = &service.routes[1];
    assert_eq!(write.headers["x-version"], ["2"]);
    assert_eq!((write.schemes, write.strip_path), (Schemes::Https, false));
    assert_eq!(write.plugins[0].name, "acl");
    assert_eq!(service.plugins[0].consumer.as_deref(), Some("ann"));
    assert_eq!(config.plugins[0].name, "correlation-id");
    let ann = &config.consumers[0];
    assert_eq!(ann.groups, ["staff"]);
    assert_eq!(ann.keyauth_credentials.len(), 2);
    assert_eq!(ann.jwt_secrets[0].algorithm, "RS256");
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.algorithm, Algorithm::ConsistentHashing);
    assert_eq!(
        upstream.hash_on,
        [HashOn::Header("x-user".to_owned()), HashOn::Ip]
    );
    let targets: Vec<_> = upstream
        .targets
        .iter()
        .map(|target| (&*target.host, target.port, target.weight))
        .collect();
    assert_eq!(targets, [("10.0.0.1", 8080, 100), ("10.0.0.2", 8000, 50)]);
    assert!((upstream.healthchecks.active.unhealthy_interval - 2.5).abs() < 1e-9);
    assert_eq!(
        upstream.healthchecks.passive.checks.unhealthy_statuses,
        [500, 503]
    );
}

#[test]
fn before_format_3_a_path_that_is_an_expression_says_nothing_of_it() {
    let paths = |version: &str| {
        let text = format!(
            "{version}\nservices: [{{name: a, url: 'http://a', routes: [{{name: r, paths: ['/a/(?<id>\\d+)', /b-1._~/%20, '~/c+']}}]}}]"
        );
        let config = Config::parse("kong.yml", &text).unwrap();
        config.services[0].routes[0].paths.clone()
    };
    for old in ["_format_version: '1.1'", "_format_version: '2.1'"] {
        let marked = ["~/a/(?<id>\\d+)", "/b-1._~/%20", "~/c+"];
        assert_eq!(paths(old), marked);
    }
    for new in ["_format_version: '3.0'", ""] {
        let as_it_stands = ["/a/(?<id>\\d+)", "/b-1._~/%20", "~/c+"];
        assert_eq!(paths(new), as_it_stands);
    }
}

#[test]
fn certificates_have_their_names_and_services_name_certificates() {
    let text = "
certificates:
- {id: shop, cert: CERT, key: KEY, snis: [{name: shop.example.com}, '*.shop.example.com']}
ca_certificates:
- {id: ours, cert: ROOT, cert_digest: abc}
snis:
- {name: api.example.com, certificate: {id: shop}}
services:
- name: a
  url: https://a:8443
  client_certificate: {id: shop}
  ca_certificates: [ours]
  tls_verify_depth: 2
- {name: b, url: 'https://b', tls_verify: false}
";
    let config = Config::parse("kong.yml", text).unwrap();
    assert_eq!(
        config.certificates[0].snis,
        ["shop.example.com", "*.shop.example.com", "api.example.com"]
    );
    assert_eq!(config.ca_certificates[0].cert, "ROOT");
    let [a, b] = &*config.services else {
        panic!("{config:?}");
    };
    assert_eq!(a.client_certificate.as_deref(), Some("shop"));
    assert_eq!((a.tls_verify, a.tls_verify_depth), (true, Some(2)));
    assert_eq!(a.ca_certificates, ["ours"]);
    assert!(!b.tls_verify);
}

#[test]
fn json_is_read_too() {
    let json = "{\"_format_version\": \"3.0\", \"services\": [{\"name\": \"a\", \"host\": \"h\", \"routes\": [{\"paths\": [\"/\"]}]}]}";
    let config = Config::parse("kong.json", json).unwrap();
    assert_eq!(config.services[0].routes[0].name, "services[0].routes[0]");
}

/// A text, and what is said of it.
const REFUSED: &[(&str, &str)] = &[
    (
        "_format_version: \"4.0\"",
        "kong.yml:1:18: _format_version: expected one of 1.1, 2.1, 3.0, found `4.0`",
    ),
    (
        "_format_version: 3.0",
        "kong.yml:1:18: _format_version: expected a text: write the version in quotes",
    ),
    (
        "services:\n- name: a\n  url: http://x:99999",
        "kong.yml:3:8: services[0].url: expected `http://host:port/path`",
    ),
    (
        "upstreams:\n- name: u\n  targets: [{target: \"a:99999\"}]",
        "upstreams[0].targets[0].target: expected a host",
    ),
    (
        "_transform: false",
        "kong.yml:1:13: _transform: expected `true`",
    ),
    (
        "vaults: []",
        "kong.yml:1:1: vaults: `vaults` is not supported",
    ),
    (
        "consumer_groups:\n- name: gold",
        "kong.yml:1:1: consumer_groups: `consumer_groups` is not supported",
    ),
    (
        "services:\n- name: a\n  protocol: tcp\n  host: h",
        "kong.yml:3:13: services[0].protocol: expected one of http",
    ),
    (
        "services:\n- name: a\n  routes:\n  - expression: x",
        "kong.yml:4:5: services[0].routes[0].expression: `expression`",
    ),
    (
        "routes:\n- paths: [/]\n  service: {name: gone}",
        "routes[0].service: expected a service of the file, found `gone`",
    ),
    (
        "plugins:\n- name: cors\n  route: gone",
        "plugins[0].route: expected a route of the file, found `gone`",
    ),
    (
        "plugins:\n- name: cors\n  consumer: gone",
        "plugins[0].consumer: expected a consumer of the file, found `gone`",
    ),
    (
        "plugins:\n- name: cors\n  consumer_group: gold",
        "plugins[0].consumer_group: `consumer_group` is not supported",
    ),
    (
        "consumers:\n- basicauth_credentials: []\n  username: x",
        "consumers[0].basicauth_credentials: `basicauth_credentials`",
    ),
    (
        "upstreams:\n- name: u\n  algorithm: consistent-hashing",
        "upstreams[0]: expected `hash_on`",
    ),
    (
        "upstreams:\n- name: u\n  targets: [{target: \"a b\"}]",
        "upstreams[0].targets[0].target: expected a host",
    ),
    (
        "targets: [{target: \"a:1\", upstream: u}]",
        "targets[0].upstream: expected a upstream of the file, found `u`",
    ),
    (
        "services: {a: 1}",
        "kong.yml:1:11: services: expected a list, found fields",
    ),
    (
        "services:\n- name: a\n  url: ftp://x",
        "services[0].url: expected `http://host:port/path`",
    ),
    (
        "services:\n- name: a\n  url: http://x\n  port: 1",
        "expected `url`, or `protocol`",
    ),
    (
        "services:\n- name: a\n  rotes: []",
        "kong.yml:3:3: services[0].rotes: unknown field `rotes`; did you mean `routes`?",
    ),
    (
        "certificates:\n- {cert: x}",
        "kong.yml:2:3: certificates[0]: expected `key`",
    ),
    (
        "snis: [{name: x, certificate: gone}]",
        "snis[0].certificate: expected a certificate of the file, found `gone`",
    ),
    ("services: [", "kong.yml:2:1: while"),
    ("[]", "kong.yml:1:1: expected fields, found a list"),
];

#[test]
fn what_is_not_supported_is_refused_by_name_and_line() {
    for (text, named) in REFUSED {
        let said = said(text);
        assert!(said.contains(named), "{text}\n{said}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text =
        "services:\n- host: 1\n  retries: x\n  routes:\n  - methods: GET\nplugins:\n- config: {}\n";
    let said = said(text);
    let lines: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("kong.yml"))
        .collect();
    let places: Vec<_> = lines
        .iter()
        .map(|line| line.split(':').nth(1).unwrap())
        .collect();
    assert_eq!(places, ["2", "3", "5", "7"], "{said}");
}

#[test]
fn a_check_tells_what_is_wrong_in_form_and_in_sense() {
    let text = "services:\n- name: a\n  retries: x\n  routes:\n  - name: r\n    paths: [api]\nplugins: [{name: magic}]\n";
    let env = Env::seeded(1);
    let said = Config::check("kong.yml", text, &env)
        .unwrap_err()
        .to_string();
    let lines: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("kong.yml"))
        .collect();
    let places: Vec<_> = lines
        .iter()
        .map(|line| line.split(':').nth(1).unwrap())
        .collect();
    assert_eq!(places, ["3", "6", "7"], "{said}");
    Config::check("seed.yml", SEED, &env).unwrap();
}

#[test]
fn secrets_are_in_no_debug_text() {
    let text = format!("{FLAT}\ncertificates: [{{cert: public, key: the-private-key}}]");
    let config = Config::parse("flat.yml", &text).unwrap();
    let text = format!(
        "{:?}{:?}{}",
        config.consumers,
        config.certificates,
        serde_json::to_string(&config).unwrap()
    );
    assert!(!text.contains("ann-key"), "{text}");
    assert!(!text.contains("the-private-key"), "{text}");
}
