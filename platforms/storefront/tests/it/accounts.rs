//! Accounts, addresses and carts.

use serde_json::json;
use trunkline_testkit::eventually;

use crate::store::{SOON, TEA_SET, TestStore, address};

#[tokio::test(flavor = "multi_thread")]
async fn somebody_new_registers_logs_in_and_orders() {
    let shop = TestStore::start().await;
    let new = json!({
        "username": "Ann", "email": "ann@example.com", "password": "correct horse",
    });
    let opened = shop
        .gateway
        .post("/api/auth/register", new.clone())
        .await
        .expect(201);
    shop.gateway
        .post("/api/auth/register", new)
        .await
        .refused(409, "username_taken");

    let wrong = json!({ "username": "ann", "password": "wrong horse" });
    shop.gateway
        .post("/api/auth/login", wrong)
        .await
        .refused(401, "login_refused");
    let nobody = json!({ "username": "nobody", "password": "correct horse" });
    shop.gateway
        .post("/api/auth/login", nobody)
        .await
        .refused(401, "login_refused");
    let right = json!({ "username": "ann", "password": "correct horse" });
    let login = shop
        .gateway
        .post("/api/auth/login", right)
        .await
        .expect(200);
    assert_eq!(login["user_id"], opened["user_id"]);

    let ann = shop.gateway.bearing(login["token"].as_str().unwrap());
    eventually(SOON, async || ann.get("/api/users/me").await.status == 200).await;
    let change = json!({ "full_name": "Ann Example", "email": "ann@example.org" });
    let profile = ann.put("/api/users/me", change).await.expect(200);
    assert_eq!(profile["username"], "ann");
    eventually(SOON, async || {
        !shop.mails("Welcome to the store").is_empty()
    })
    .await;

    let order = json!({ "items": [{ "product_id": TEA_SET, "quantity": 1 }] });
    let added = ann
        .post("/api/users/me/addresses", address())
        .await
        .expect(201);
    let accepted = ann
        .with("idempotency-key", "1")
        .post("/api/v1/orders", order)
        .await
        .expect(202);
    let path = format!("/api/v1/orders/{}", accepted["order_id"].as_str().unwrap());
    let order = ann.get(&path).await.expect(200);
    assert_eq!(order["shipping_address"], address());
    eventually(SOON, async || {
        shop.mails("<ann@example.")
            .iter()
            .any(|mail| mail.contains("ORD-"))
    })
    .await;
    let path = format!(
        "/api/users/me/addresses/{}",
        added["address_id"].as_str().unwrap()
    );
    ann.delete(&path).await.expect(204);
    ann.delete(&path).await.refused(404, "address_unknown");
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cart_is_filled_changed_and_emptied() {
    let shop = TestStore::start().await;
    let ann = shop.user("ann").caller;
    let empty = ann.get("/api/cart").await.expect(200);
    assert_eq!(empty["items"], json!([]));
    let item = json!({ "product_id": TEA_SET, "quantity": 2 });
    ann.post("/api/cart/items", item.clone()).await.expect(200);
    let cart = ann.post("/api/cart/items", item).await.expect(200);
    assert_eq!(
        cart["items"].as_array().unwrap().len(),
        1,
        "the same thing is one line"
    );
    assert_eq!(cart["items"][0]["quantity"], 4);
    assert_eq!(cart["total"].to_string(), "119.96");

    let path = format!(
        "/api/cart/items/{}",
        cart["items"][0]["item_id"].as_str().unwrap()
    );
    let cart = ann.patch(&path, json!({ "quantity": 1 })).await.expect(200);
    assert_eq!(cart["total"].to_string(), "29.99");
    shop.user("bob")
        .caller
        .delete(&path)
        .await
        .refused(404, "item_unknown");
    let cart = ann.delete(&path).await.expect(200);
    assert_eq!(cart["items"], json!([]));

    let ordering = ann.with("idempotency-key", "1");
    let order = json!({ "shipping_address": address() });
    ordering
        .post("/api/v1/orders", order)
        .await
        .refused(409, "cart_empty");
    shop.stop().await;
}
