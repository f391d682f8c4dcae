use trunkline_gateway::Config;

#[test]
fn settings_that_can_not_be_kept_are_named() {
    for (plugin, said) in [
        (
            "{name: key-auth, config: {anonymous: gone}}",
            "config.anonymous: expected the name of a consumer, found `gone`",
        ),
        (
            "{name: key-auth, config: {key_in_body: true}}",
            "config.key_in_body: expected false",
        ),
        (
            "{name: jwt, config: {secret_is_base64: true}}",
            "config.secret_is_base64: expected false",
        ),
        (
            "{name: acl, config: {allow: [a], deny: [b]}}",
            "config: expected `allow` or `deny`, and not both",
        ),
        (
            "{name: ip-restriction, config: {allow: [10.0.0.300]}}",
            "config.allow[0]: expected an address or a range",
        ),
        (
            "{name: ip-restriction}",
            "config: expected `allow` or `deny`",
        ),
        (
            "{name: request-termination, config: {status_code: 700}}",
            "config.status_code: expected a status",
        ),
        (
            "{name: request-termination, config: {echo: true}}",
            "config.echo: expected false",
        ),
        (
            "{name: request-transformer, config: {add: {body: ['a:b']}}}",
            "config.add.body: expected nothing",
        ),
        (
            "{name: request-transformer, config: {add: {headers: ['host:x']}}}",
            "config.add.headers[0]: expected `name:value`",
        ),
        (
            "{name: request-transformer, config: {replace: {uri: '$(lua code)'}}}",
            "config.replace.uri: expected headers, query_params",
        ),
        (
            "{name: request-transformer, config: {add: {uri: /x}}}",
            "config.add.uri: expected `uri` in `replace` alone",
        ),
        (
            "{name: response-transformer, config: {add: {json: ['a:b']}}}",
            "config.add.json: expected nothing",
        ),
        (
            "{name: proxy-cache, config: {request_method: [POST]}}",
            "config.request_method[0]: expected GET or HEAD",
        ),
        (
            "{name: proxy-cache, config: {strategy: redis}}",
            "config.strategy: unknown variant `redis`",
        ),
        (
            "{name: bot-detection, config: {deny: ['(']}}",
            "config.deny: expected expressions",
        ),
        (
            "{name: rate-limiting, config: {minute: 1, policy: redis}}",
            "config.redis.host: expected Redis's host",
        ),
        (
            "{name: rate-limiting, config: {minute: 1, policy: redis, redis: {host: h, ssl: true}}}",
            "config.redis.ssl: expected false",
        ),
        (
            "{name: rate-limiting, config: {minute: 1, policy: redis, redis: {host: h, hosts: h}}}",
            "config.redis.hosts: unknown field `hosts`",
        ),
        (
            "{name: rate-limiting, config: {minute: 1, sync_rate: 10}}",
            "config.sync_rate: expected -1",
        ),
        (
            "{name: rate-limiting, config: {minute: 1, policy: cluster}}",
            "config.policy: unknown variant `cluster`",
        ),
        (
            "{name: jwt, config: {jwks_uri: 'ftp://x'}}",
            "config.jwks_uri: expected an http:// or https:// URL",
        ),
        (
            "{name: jwt, config: {jwks_uri: 'http://x', rediscovery_lifetime: 0}}",
            "config.rediscovery_lifetime: expected a number above 0",
        ),
        (
            "{name: jwt, config: {jwks_uri: 'http://x', leeway: 4000}}",
            "config.leeway: expected at most 3600 seconds",
        ),
        (
            "{name: http-log}",
            "config.http_endpoint: expected an http:// or https:// URL",
        ),
        (
            "{name: http-log, config: {http_endpoint: 'http://u:p@x'}}",
            "config.http_endpoint: expected a URL without a password",
        ),
        (
            "{name: http-log, config: {http_endpoint: 'http://x', method: GET}}",
            "config.method: expected POST, PUT or PATCH",
        ),
        (
            "{name: http-log, config: {http_endpoint: 'http://x', headers: {Host: y}}}",
            "config.headers.Host: expected the name of a header, not Host",
        ),
        (
            "{name: http-log, config: {http_endpoint: 'http://x', queue: {max_batch_size: 0}}}",
            "config.queue.max_batch_size: expected 1 to",
        ),
        (
            "{name: http-log, config: {http_endpoint: 'http://x', custom_fields_by_lua: {a: return 1}}}",
            "config.custom_fields_by_lua: expected nothing",
        ),
        (
            "{name: file-log}",
            "config.path: expected the path of a file",
        ),
        (
            "{name: prometheus, config: {ai_metrics: true}}",
            "config.ai_metrics: expected false",
        ),
        (
            "{name: opentelemetry}",
            "config.traces_endpoint: expected the URL of a collector",
        ),
        (
            "{name: opentelemetry, config: {endpoint: 'http://x', header_type: b3}}",
            "config.header_type: unknown variant `b3`",
        ),
        (
            "{name: opentelemetry, config: {endpoint: 'http://x', sampling_rate: 2}}",
            "config.sampling_rate: expected 0 to 1",
        ),
        (
            "{name: request-validator}",
            "config: expected `body_schema`, `parameter_schema` or `openapi`",
        ),
        (
            "{name: request-validator, config: {body_schema: '[{}]'}}",
            "config.body_schema: expected a JSON Schema: an object",
        ),
        (
            "{name: request-validator, config: {body_schema: '{\"type\": 1}'}}",
            "config.body_schema: expected a JSON Schema: at `/type`",
        ),
        (
            "{name: request-validator, config: {version: kong, body_schema: '{}'}}",
            "config.version: unknown variant `kong`",
        ),
        (
            "{name: request-validator, config: {parameter_schema: [{in: query, name: a, style: matrix}]}}",
            "config.parameter_schema[0].style: expected form",
        ),
        (
            "{name: request-validator, config: {openapi: /nowhere.yml}}",
            "config.openapi: expected an OpenAPI document: /nowhere.yml",
        ),
    ] {
        let text = format!(
            "services:\n- name: a\n  routes: [{{name: r, paths: [/]}}]\nplugins: [{plugin}]"
        );
        let error = crate::config::make_of(Config::parse("kong.yml", &text).unwrap()).unwrap_err();
        assert!(
            error.contains("kong.yml:4:") && error.contains(&format!("plugins[0].{said}")),
            "{plugin}\n{error}"
        );
    }
}
