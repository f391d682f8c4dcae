//! `request-validator` by schemas of its settings.

use super::gateway;

const FILE: &str = r#"
services:
- name: echo
  routes:
  - name: orders
    paths: ['~/orders/(?<id>[^/]+)$']
    strip_path: false
    plugins:
    - name: request-validator
      config:
        version: draft7
        body_bytes_max: 200
        allowed_content_types: [application/json, application/json; charset=utf-8, text/plain]
        body_schema: '{"type": "object", "required": ["item"], "properties": {"item": {"type": "object", "properties": {"price": {"type": "number", "minimum": 1}}}}}'
        parameter_schema:
        - {in: path, name: id, required: true, schema: '{"type": "integer", "maximum": 99}', style: simple, explode: false}
        - {in: query, name: tags, schema: '{"type": "array", "items": {"type": "integer"}, "maxItems": 2}', style: form, explode: true}
        - {in: query, name: sizes, schema: '{"type": "array", "items": {"enum": ["s", "m"]}}', style: pipeDelimited, explode: false}
        - {in: query, name: at, schema: '{"type": "object", "required": ["x"], "additionalProperties": {"type": "number"}}', style: deepObject, explode: true}
        - {in: header, name: x-flag, required: true, schema: '{"type": "boolean"}', style: simple, explode: false}
  - name: curt
    paths: [/curt]
    plugins:
    - name: request-validator
      config: {verbose_response: false, body_schema: '{"type": "object", "required": ["a"]}', content_type_parameter_validation: false}
"#;

const GOOD: &str = "content-type: application/json\r\nx-flag: true\r\n";

#[tokio::test]
async fn what_is_as_the_schemas_say_passes_as_it_came() {
    let kit = gateway(FILE).await;
    for line in [
        "POST /orders/7",
        "POST /orders/7?tags=1&tags=2&sizes=s|m&at[x]=1.5&other=x",
    ] {
        let answer = kit.send(line, GOOD, "{\"item\": {\"price\": 1}}").await;
        assert_eq!(answer.status, 200, "{line}: {answer:?}");
        assert_eq!(answer.json()["body_bytes"], 22);
    }
    let text = "content-type: text/plain\r\nx-flag: true\r\n";
    assert_eq!(
        kit.send("POST /orders/7", text, "no JSON").await.status,
        200
    );
    let charset = "content-type: Application/JSON; Charset=\"UTF-8\"\r\nx-flag: false\r\n";
    assert_eq!(
        kit.send("POST /orders/7", charset, "{\"item\": {}}")
            .await
            .status,
        200
    );
    let chunks = "5\r\n{\"ite\r\n7\r\nm\": {}}\r\n0\r\n\r\n";
    let head = "POST /orders/7 HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ntransfer-encoding: chunked\r\n";
    let answer = kit.raw(&format!("{head}{GOOD}\r\n{chunks}")).await;
    assert!(answer.contains("\"body_bytes\":12"), "{answer}");
}

#[tokio::test]
async fn each_mistake_is_named_by_its_place_and_what_was_expected() {
    let kit = gateway(FILE).await;
    let body = "{\"item\": {\"price\": 1}}";
    for (line, headers, body, said) in [
        (
            "POST /orders/x",
            GOOD,
            body,
            "path id /: value is not of type \"integer\"",
        ),
        (
            "POST /orders/100",
            GOOD,
            body,
            "path id /: value is greater than the maximum of 99",
        ),
        (
            "POST /orders/7?tags=1&tags=x",
            GOOD,
            body,
            "query tags /1: value is not of type \"integer\"",
        ),
        (
            "POST /orders/7?tags=1&tags=2&tags=3",
            GOOD,
            body,
            "query tags /: value has more than 2 items",
        ),
        (
            "POST /orders/7?sizes=s|xl",
            GOOD,
            body,
            "query sizes /1: value is not one of",
        ),
        (
            "POST /orders/7?sizes=s&sizes=m",
            GOOD,
            body,
            "query sizes: expected one, found several",
        ),
        (
            "POST /orders/7?at[y]=1",
            GOOD,
            body,
            "query at /: \"x\" is a required property",
        ),
        (
            "POST /orders/7",
            "content-type: application/json\r\n",
            body,
            "header x-flag: expected one",
        ),
        (
            "POST /orders/7",
            "content-type: application/json\r\nx-flag: yes\r\n",
            body,
            "header x-flag /: value is not of type \"boolean\"",
        ),
        (
            "POST /orders/7",
            GOOD,
            "{\"item\": {\"price\": \"s3cret\"}}",
            "body /item/price: value is not of type \"number\"",
        ),
        (
            "POST /orders/7",
            GOOD,
            "{}",
            "body /: \"item\" is a required property",
        ),
        (
            "POST /orders/7",
            GOOD,
            "{\"item\": 7, \"item\": {}}",
            "body: expected each field once, found one twice at line 1",
        ),
        (
            "POST /orders/7",
            GOOD,
            "{\"item\": ",
            "body: expected JSON, broken at line 1",
        ),
        (
            "POST /orders/7",
            "x-flag: true\r\n",
            "",
            "body: expected one",
        ),
        (
            "POST /curt",
            "content-type: application/json; charset=latin1\r\n",
            "{}",
            "body: not as its schema says",
        ),
    ] {
        let answer = kit.send(line, headers, body).await;
        answer.is_problem(400, "request_invalid");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.starts_with(said), "{line}: {detail}");
        assert!(!detail.contains("s3cret"), "{detail}");
    }
    let kind = "content-type: application/xml\r\nx-flag: true\r\n";
    kit.send("POST /orders/7", kind, body)
        .await
        .is_problem(400, "content_type_not_allowed");
    let long = format!("{{\"item\": {{\"x\": \"{}\"}}}}", "x".repeat(300));
    kit.send("POST /orders/7", GOOD, &long)
        .await
        .is_problem(413, "body_too_large");
}
