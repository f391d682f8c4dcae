//! What exactly somebody reads who sends something wrong: the whole answer, but for the ids of the request.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use storefront::demo;
use trunkline::Program as _;
use trunkline::{Client, Context, Env, ErrorKind, Secret, Signer};
use trunkline_testkit::eventually;

use crate::store::{SOON, TEA_SET, TestStore, User, address};
use trunkline_testkit::http::Answer;

/// The answer without the ids, which are there.
#[track_caller]
fn whole(answer: &Answer) -> Value {
    let mut problem = answer.json();
    assert_eq!(problem["status"], answer.status.as_u16());
    for id in ["correlation_id", "request_id"] {
        let removed = problem.as_object_mut().unwrap().remove(id);
        assert!(removed.is_some_and(|id| id.is_string()), "{id}: {answer:?}");
    }
    problem
}

fn unprocessable(code: &str, detail: impl Into<String>) -> Value {
    let detail = detail.into();
    json!({
        "type": "about:blank", "title": "Unprocessable Entity", "status": 422,
        "detail": detail, "code": code, "retry": "permanent",
    })
}

fn unknown(product_id: &str) -> Value {
    json!({
        "type": "about:blank", "title": "Not Found", "status": 404,
        "detail": format!("there is no such product (product_id: {product_id})"),
        "code": "product_unknown", "retry": "permanent",
    })
}

async fn add(user: &User, product_id: &str, quantity: &str) -> Answer {
    let body = format!(r#"{{"product_id":{product_id},"quantity":{quantity}}}"#);
    let caller = &user.caller;
    caller
        .send(Method::POST, "/api/cart/items", Some(body))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn quantities_beyond_every_border() {
    let shop = TestStore::start().await;
    let ann = shop.user("ann");
    let out_of_range = unprocessable(
        "quantity_out_of_range",
        "a quantity must lie between 1 and 1000",
    );
    for quantity in [
        "0",
        "-1",
        "1001",
        "2147483648",
        "4294967296",
        "9223372036854775807",
        "18446744073709551615",
        "-9223372036854775808",
    ] {
        let answer = add(&ann, "\"p\"", quantity).await;
        assert_eq!(whole(&answer), out_of_range, "{quantity}");
    }
    for (quantity, found) in [
        ("1.5", "floating point `1.5`"),
        ("1e2", "floating point `100.0`"),
        (
            "18446744073709551616",
            "floating point `1.8446744073709552e+19`",
        ),
        ("\"2\"", "string \"2\""),
        ("null", "null"),
        ("true", "boolean `true`"),
    ] {
        // The column is that of the value's end.
        let column = r#"{"product_id":"p","quantity":"#.len() + quantity.len();
        let detail = format!(
            "the body is not as expected: invalid type: {found}, \
             expected a whole number between 1 and 1000 at line 1 column {column} (field: quantity)"
        );
        let answer = add(&ann, "\"p\"", quantity).await;
        assert_eq!(whole(&answer), unprocessable("body_mismatch", detail));
    }
    let answer = add(&ann, "\"p\"", "1e400").await;
    assert_eq!(
        whole(&answer),
        json!({
            "type": "about:blank", "title": "Bad Request", "status": 400,
            "detail": "the body is not valid JSON: number out of range at line 1 column 34",
            "code": "json_malformed", "retry": "permanent",
        })
    );
    let cart = ann.caller.get("/api/cart").await.expect(200);
    assert_eq!(cart["items"], json!([]));
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn products_that_are_none() {
    let shop = TestStore::start().await;
    let ann = shop.user("ann");
    let largest = "9223372036854775807";
    let answer = add(&ann, &format!("\"{largest}\""), "1").await;
    assert_eq!(whole(&answer), unknown(largest), "an id is a text");
    let answer = add(&ann, largest, "1").await;
    let detail = format!(
        "the body is not as expected: invalid type: integer `{largest}`, \
         expected a string at line 1 column 33 (field: product_id)"
    );
    assert_eq!(whole(&answer), unprocessable("body_mismatch", detail));

    let long = "x".repeat(100_000);
    let answer = add(&ann, &format!("\"{long}\""), "1").await;
    let shown = format!("{}…", "x".repeat(80));
    assert_eq!(whole(&answer), unknown(&shown), "it is not sent back whole");
    let quoted = "' OR 1=1 --";
    let answer = add(&ann, &format!("\"{quoted}\""), "1").await;
    assert_eq!(whole(&answer), unknown(quoted));
    let answer = ann.order("k", "nothing", 1).await;
    assert_eq!(whole(&answer), unknown("nothing"));
    let answer = shop.gateway.get("/api/inventory/nothing").await;
    assert_eq!(whole(&answer), unknown("nothing"));
    shop.stop().await;
}

/// Prices come from the shop's own side, by product-service's internal route.
#[tokio::test(flavor = "multi_thread")]
async fn prices_beyond_every_border() {
    let shop = TestStore::start().await;
    let network = shop.here().running().network();
    let channel = network.channel("answers", "product-service");
    let product = Client::new(channel, Context::root(&Env::system()));
    let path = format!("/internal/products/{TEA_SET}");
    for price in [
        json!(-0.01),
        json!(29.999),
        json!(1e12),
        json!(1e300),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!("29.99"),
        json!(null),
    ] {
        let change = product.patch(&path).json(&json!({ "price": price }));
        let changed = change.send::<Value>().await;
        if price.is_null() {
            assert_eq!(changed.unwrap()["price"], 29.99, "nothing is no change");
            continue;
        }
        let error = changed.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{price}");
        assert_eq!(error.code(), "body_mismatch", "{price}");
        let expected =
            "an amount of money between 0.00 and 999999999999.99 with at most two decimals";
        assert!(error.to_string().contains(expected), "{price}: {error}");
    }

    // The dearest product there can be: a cart of many is refused, not wrapped around.
    let change = product
        .patch(&path)
        .json(&json!({ "price": 999_999_999_999.99 }));
    let _: Value = change.send().await.unwrap();
    let ann = shop.user("ann");
    let one = add(&ann, &format!("\"{TEA_SET}\""), "1").await.expect(200);
    assert_eq!(one["total"].to_string(), "999999999999.99");
    let too_much = unprocessable(
        "amount_out_of_range",
        "an amount of money must lie between 0.00 and 999999999999.99",
    );
    let answer = add(&ann, &format!("\"{TEA_SET}\""), "999").await;
    assert_eq!(whole(&answer), too_much);
    assert_eq!(whole(&ann.order("k", TEA_SET, 2).await), too_much);
    let (_, reserved, _) = shop.availability(TEA_SET).await;
    assert_eq!(reserved, 0, "what could not be ordered is not held");
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_bodies_and_media_of_the_wrong_kind() {
    let shop = TestStore::start().await;
    let ann = shop.user("ann");
    let foreign = unprocessable(
        "cursor_foreign",
        "the cursor is not one of this list; begin without a cursor",
    );
    let page = shop.gateway.get("/api/products?q=tea&limit=1").await;
    let cursor = page.expect(200)["next_cursor"].as_str().unwrap().to_owned();
    for path in [
        format!("/api/products?cursor={cursor}"),
        "/api/products?cursor=".to_owned(),
        "/api/products?cursor=9223372036854775807".to_owned(),
    ] {
        assert_eq!(whole(&shop.gateway.get(&path).await), foreign, "{path}");
    }
    let path = format!("/api/v1/orders?cursor={cursor}");
    assert_eq!(whole(&ann.caller.get(&path).await), foreign, "{path}");

    let large = json!({ "product_id": "x".repeat(1024 * 1024), "quantity": 1 });
    let answer = ann.caller.post("/api/cart/items", large).await;
    assert_eq!(
        whole(&answer),
        json!({
            "type": "about:blank", "title": "Payload Too Large", "status": 413,
            "detail": "expected a body of at most 1048576 bytes", "code": "body_too_large",
        })
    );
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_expired_forged_or_none() {
    let shop = TestStore::start().await;
    let env = Env::system();
    let file = shop.folder.path().join("data/token.secret");
    let own = Signer::hs256(&Secret::load_or_create(&file, &env).unwrap());
    let stranger = Signer::hs256(&Secret::generate(&env));
    let mut claims = demo::claims("ann", &[], Duration::from_secs(60), &env);
    let forged = stranger.sign(&claims).unwrap();
    claims.exp -= 3_600;
    let expired = own.sign(&claims).unwrap();
    let refused = |code: &str, detail: &str| {
        json!({
            "type": "about:blank", "title": "Unauthorized", "status": 401,
            "detail": detail, "code": code,
        })
    };
    for (token, code, detail) in [
        (
            &*expired,
            "token_expired",
            "the token is not valid at this time",
        ),
        (
            &*forged,
            "token_forged",
            "the token was not issued for this place",
        ),
        (
            "x.y.z",
            "token_malformed",
            "the token is not a well-formed JWT",
        ),
    ] {
        let answer = shop.gateway.bearing(token).get("/api/cart").await;
        assert_eq!(whole(&answer), refused(code, detail));
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, Some("Bearer error=\"invalid_token\""));
    }
    let answer = shop.gateway.get("/api/cart").await;
    let detail = "expected `Authorization: Bearer <token>` with a JWT";
    assert_eq!(whole(&answer), refused("token_missing", detail));
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_carts_for_the_last_piece() {
    let shop = TestStore::start().await;
    let (_, _, mut left) = shop.availability(TEA_SET).await;
    let ann = shop.user("ann");
    while left > 1 {
        let pieces = u32::try_from((left - 1).min(300)).unwrap();
        let key = format!("before {left}");
        ann.order(&key, TEA_SET, pieces).await.expect(202);
        left -= u64::from(pieces);
    }

    let users = [shop.user("bob"), shop.user("cleo")];
    for user in &users {
        add(user, &format!("\"{TEA_SET}\""), "1").await.expect(200);
    }
    let order = async |user: &User| {
        let caller = user.caller.with("idempotency-key", "last");
        let order = json!({ "shipping_address": address() });
        caller.post("/api/v1/orders", order).await
    };
    let (bob, cleo) = tokio::join!(order(&users[0]), order(&users[1]));
    let (winner, loser) = if bob.status == 202 {
        (0, cleo)
    } else {
        assert_eq!(cleo.status, 202, "{bob:?} {cleo:?}");
        (1, bob)
    };
    assert_eq!(
        whole(&loser),
        json!({
            "type": "about:blank", "title": "Conflict", "status": 409,
            "detail": format!(
                "there are not enough pieces (product_id: {TEA_SET}, wanted: 1, available: 0)"
            ),
            "code": "stock_insufficient", "retry": "permanent",
        })
    );
    let pieces = async |user: &User| {
        let cart = user.caller.get("/api/cart").await.expect(200);
        cart["items"].as_array().unwrap().len()
    };
    // The winner's cart is empty once; the loser still has what was wanted.
    eventually(SOON, async || pieces(&users[winner]).await == 0).await;
    assert_eq!(pieces(&users[1 - winner]).await, 1);
    eventually(SOON, async || shop.availability(TEA_SET).await == (0, 0, 0)).await;
    shop.stop().await;
}
