use serde_json::{Value, json};
use trunkline_call::Network;
use trunkline_core::Env;
use trunkline_gateway::{Config, Gateway};
use trunkline_telemetry::Telemetry;

fn make(config: Value) -> Result<Gateway, String> {
    let config = Config::parse("kong.json", &config.to_string());
    make_of(config.map_err(|error| error.to_string())?)
}

pub(crate) fn make_of(config: Config) -> Result<Gateway, String> {
    let env = Env::seeded(1);
    let telemetry = Telemetry::new(env.clone());
    let network = Network::new(telemetry.clone(), env.clone());
    let channel_of = move |name: &str| network.channel("gateway", name);
    Gateway::new(config, channel_of, None, telemetry, env).map_err(|error| {
        assert_eq!(error.code(), "gateway_config_invalid");
        error.to_string()
    })
}

#[tokio::test]
async fn the_seeds_names_are_understood() {
    make(json!({ "services": [{
        "name": "product-service",
        "url": "http://product-service:3002",
        "routes": [{ "name": "product-routes", "paths": ["/api/products"], "methods": ["GET"] }],
        "plugins": [
            { "name": "cors" },
            { "name": "rate-limiting", "config": { "minute": 1000 } }
        ]
    }] }))
    .unwrap();
}

#[test]
fn an_unknown_name_is_never_read_over() {
    for (config, named) in [
        (json!({ "servces": [] }), "servces"),
        (
            json!({ "services": [{ "name": "a", "hosts": "b" }] }),
            "hosts",
        ),
        (
            json!({ "services": [{ "routes": [{ "priorities": 1 }] }] }),
            "priorities",
        ),
        (
            json!({ "plugins": [{ "name": "cors", "routes": "x" }] }),
            "routes",
        ),
    ] {
        let said = make(config).unwrap_err();
        assert!(said.contains(&format!("unknown field `{named}`")), "{said}");
    }
}

#[test]
fn every_mistake_is_told_at_once_with_its_place() {
    let said = make(json!({
        "plugins": [{ "name": "oauth2" }, { "name": "jwt" }],
        "services": [
            { "name": "a", "routes": [
                { "name": "r", "paths": ["api", "/a/../b", "~/x($"], "methods": ["get"], "hosts": ["a:b"] },
                { "name": "r" }
            ], "plugins": [
                { "name": "rate-limiting", "config": { "minute": "many", "hours": 1, "path": 5 } },
                { "name": "rate-limiting", "config": { "policy": "redis", "minute": 1 } },
                { "name": "rate-limiting" },
                { "name": "cors", "config": { "credentials": true } },
                { "name": "cors", "config": { "origins": ["https://a.example/x"] } },
                { "name": "request-size-limiting", "config": { "size_unit": "gigabytes" } },
                { "name": "correlation-id", "config": { "header_name": "a b" } }
            ] },
            { "name": "a" }
        ]
    }))
    .unwrap_err();
    for place in [
        "plugins[0].name: expected one of correlation-id, bot-detection, cors, jwt",
        "plugins[1].config: expected a key to verify tokens with",
        "services[0].routes[0].paths[0]: expected a path that begins with /, found `api`",
        "services[0].routes[0].paths[1]: expected `/b`, found `/a/../b`",
        "services[0].routes[0].paths[2]: expected an expression",
        "services[0].routes[0].methods[0]: expected a method in capitals, such as GET, found `get`",
        "services[0].routes[0].hosts[0]: expected a host, `*.` and a domain",
        "services[0].routes[1].name: expected a name of its own, found a second `r`",
        "services[0].routes[1]: expected paths, hosts, methods, headers or snis",
        "services[0].plugins[0].config.minute: invalid type: string \"many\", expected u32",
        "services[0].plugins[0].config.hours: unknown field `hours`",
        "services[0].plugins[0].config.path: invalid type",
        "services[0].plugins[1].config.redis.host: expected Redis's host",
        "services[0].plugins[2].config: expected a limit",
        "services[0].plugins[3].config.origins: expected named origins",
        "services[0].plugins[4].config.origins[0]: expected * or an origin",
        "services[0].plugins[5].config.size_unit: unknown variant `gigabytes`",
        "services[0].plugins[6].config.header_name: expected the name of a header",
        "services[1].name: expected a name of its own, found a second `a`",
    ] {
        assert!(said.contains(place), "{place}\nnot in\n{}", said);
    }
}

#[test]
fn a_plugin_stands_once_in_a_scope() {
    let twice = json!({ "services": [{ "name": "a", "routes": [{ "name": "r", "paths": ["/"] }], "plugins": [
        { "name": "cors" }, { "name": "cors", "enabled": false }
    ] }] });
    let said = make(twice).unwrap_err();
    assert!(
        said.contains("services[0].plugins[1]: expected `cors` once"),
        "{said}"
    );
}
