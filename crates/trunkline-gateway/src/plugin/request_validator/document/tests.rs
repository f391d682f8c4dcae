use serde_json::json;

use super::*;

fn refused(document: Value) -> String {
    Document::new(document).unwrap_err()
}

#[test]
fn what_can_not_be_held_to_is_named() {
    let with = |path: &str, item: Value| {
        let mut paths = Map::new();
        paths.insert(path.to_owned(), item);
        json!({ "openapi": "3.1.0", "paths": paths })
    };
    assert!(refused(json!({ "swagger": "2.0" })).contains("expected `openapi` 3.0 or 3.1"));
    assert!(refused(with("/{a}{b}", json!({}))).contains("/{a}{b}: expected one place"));
    assert!(refused(with("/{a", json!({}))).contains("expected `}`"));
    let body = |schema: Value| json!({ "post": { "requestBody": { "content": { "application/json": { "schema": schema } } } } });
    let said = refused(with("/a", body(json!({ "$ref": "#/gone" }))));
    assert!(
        said.starts_with("/a: post: body as application/json: expected"),
        "{said}"
    );
    let said = refused(with(
        "/a",
        body(json!({ "$ref": "http://127.0.0.1:1/x.json" })),
    ));
    assert!(
        said.starts_with("/a: post: body"),
        "nothing is fetched: {said}"
    );
    let around = json!({ "parameters": [{ "$ref": "#/components/parameters/A" }], "get": {} });
    let mut document = with("/a", around);
    document["components"]["parameters"]["A"] = json!({ "$ref": "#/components/parameters/A" });
    assert!(refused(document).contains("expected references that come to an end"));
}

#[test]
fn a_path_of_fewer_places_goes_first_and_escapes_mean_what_they_stand_for() {
    let get = || json!({ "get": {} });
    let document = Document::new(json!({ "openapi": "3.0.0", "paths": {
        "/{kind}/{id}": get(), "/books/{id}": get(), "/books/new": get(), "/files/{name}.json": get()
    } }));
    let document = document.unwrap();
    let found = |path: &str| {
        let (_, captured) = document.find(&Method::GET, path).unwrap();
        let pairs = captured
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(found("/books/new"), "");
    assert_eq!(found("/books/%6eew"), "");
    assert_eq!(found("/books/7"), "id=7");
    assert_eq!(found("/films/a%20b%zz"), "kind=films id=a b%zz");
    assert_eq!(found("/files/x.json"), "name=x");
    assert!(document.find(&Method::GET, "/books/").is_err());
    assert!(document.find(&Method::GET, "/a/b/c").is_err());
}
