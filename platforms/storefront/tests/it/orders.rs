//! Orders, from the cart to their end.

use serde_json::json;
use storefront::order::OrderFlow;
use trunkline_testkit::eventually;

use crate::store::{CONFIG, SOON, TEA_SET, TestStore, User, address, types};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_goes_from_the_cart_to_its_confirmation() {
    order_from_the_cart(TestStore::start().await).await;
}

pub(crate) async fn order_from_the_cart(shop: TestStore) {
    let demo = shop.user("demo");
    let (on_hand, ..) = shop.availability(TEA_SET).await;
    let product = shop
        .gateway
        .get(&format!("/api/products/{TEA_SET}"))
        .await
        .expect(200);
    assert_eq!(product["price"].to_string(), "29.99");

    let item = json!({
        "product_id": TEA_SET,
        "variant_id": product["variants"][0]["id"],
        "quantity": 2,
    });
    let cart = demo.caller.post("/api/cart/items", item).await.expect(200);
    assert_eq!(cart["total"].to_string(), "59.98");

    let ordering = demo.caller.with("idempotency-key", "first");
    let answer = ordering.post("/api/v1/orders", json!({})).await;
    let accepted = answer.expect(202);
    let order_id = accepted["order_id"].as_str().unwrap();
    assert_eq!(
        accepted,
        json!({ "order_id": order_id, "status": "pending" })
    );
    assert_eq!(
        answer.header("location"),
        Some(&*format!("/api/v1/orders/{order_id}"))
    );

    let order = demo.ended(order_id).await;
    assert_eq!(order["status"], "confirmed");
    assert_eq!(order["total"].to_string(), "59.98");
    assert_eq!(
        order["shipping_address"],
        address(),
        "the default address was taken"
    );
    let number = order["order_number"].as_str().unwrap();
    assert!(
        number.starts_with("ORD-") && number.ends_with("-00001"),
        "{number}"
    );

    eventually(SOON, async || {
        shop.availability(TEA_SET).await == (on_hand - 2, 0, on_hand - 2)
    })
    .await;
    eventually(SOON, async || {
        let cart = demo.caller.get("/api/cart").await.expect(200);
        cart["items"].as_array().unwrap().is_empty()
    })
    .await;
    let charges = shop.charges(order_id).await;
    assert_eq!(charges.len(), 1);
    assert_eq!(charges[0]["amount"], 5_998);
    eventually(SOON, async || !shop.mails(number).is_empty()).await;
    let mails = shop.mails(number);
    assert_eq!(mails.len(), 1);
    assert!(
        mails[0].contains("To: demo <demo@storefront.example>"),
        "{}",
        mails[0]
    );
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_somebody_without_an_address_is_picked_up() {
    let shop = TestStore::start().await;
    let ann = shop.user("ann");
    let body = json!({ "items": [{ "product_id": TEA_SET, "quantity": 1 }] });
    let ordering = ann.caller.with("idempotency-key", "1");
    let accepted = ordering.post("/api/v1/orders", body).await.expect(202);
    let order = ann.ended(accepted["order_id"].as_str().unwrap()).await;
    assert_eq!(order["status"], "confirmed");
    assert_eq!(order.get("shipping_address"), None);
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_is_the_same_order() {
    same_key(TestStore::start().await).await;
}

pub(crate) async fn same_key(shop: TestStore) {
    let ann = shop.user("ann");
    let first = ann.order("key", TEA_SET, 1).await;
    let second = ann.order("key", TEA_SET, 1).await;
    assert_eq!(first.expect(202), second.expect(202));
    assert_eq!(first.header("location"), second.header("location"));
    ann.order("key", TEA_SET, 2)
        .await
        .refused(422, "idempotency_key_reused");

    let bob = shop.user("bob");
    let other = bob.order("key", TEA_SET, 1).await.expect(202);
    assert_ne!(
        other["order_id"],
        first.json()["order_id"],
        "keys are each user's own"
    );

    let order_id = first.json()["order_id"].as_str().unwrap().to_owned();
    ann.ended(&order_id).await;
    let orders = ann.caller.get("/api/v1/orders").await.expect(200);
    assert_eq!(orders["items"].as_array().unwrap().len(), 1);
    bob.caller
        .get(&format!("/api/v1/orders/{order_id}"))
        .await
        .refused(404, "order_unknown");
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_sell_every_piece_once() {
    sell_out(TestStore::start().await).await;
}

pub(crate) async fn sell_out(shop: TestStore) {
    let page = shop
        .gateway
        .get("/api/products?limit=100")
        .await
        .expect(200);
    let mut scarce = None;
    for product in page["items"].as_array().unwrap() {
        let id = product["id"].as_str().unwrap();
        let (on_hand, ..) = shop.availability(id).await;
        if (1..=15).contains(&on_hand) {
            scarce = Some((id.to_owned(), on_hand));
            break;
        }
    }
    let (product_id, on_hand) = scarce.expect("the catalogue has products that are scarce");

    let ann = shop.user("ann");
    let mut buyers = tokio::task::JoinSet::new();
    for buyer in 0..on_hand + 10 {
        let (ann, product_id) = (ann.clone(), product_id.clone());
        buyers.spawn(async move { ann.order(&format!("buyer {buyer}"), &product_id, 1).await });
    }
    let answers = buyers.join_all().await;
    let accepted = answers.iter().filter(|answer| answer.status == 202).count() as u64;
    assert_eq!(accepted, on_hand);
    for answer in answers.iter().filter(|answer| answer.status != 202) {
        answer.refused(409, "stock_insufficient");
    }
    eventually(SOON, async || {
        shop.availability(&product_id).await == (0, 0, 0)
    })
    .await;
    eventually(SOON, async || {
        let product = shop
            .gateway
            .get(&format!("/api/products/{product_id}"))
            .await
            .expect(200);
        product["in_stock"] == false
    })
    .await;
    shop.stop().await;
}

/// The provider is silent for longer than the stock is held.
pub(crate) const IMPATIENT: &str = "[service.inventory-service]\nreservation_ms = 500\n\
    [service.payment-service]\ntimeout_ms = 200\nask_again_ms = 2000\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_expires_with_its_order() {
    expire(TestStore::start_with(IMPATIENT).await).await;
}

pub(crate) async fn expire(shop: TestStore) {
    let ann = shop.user("ann");
    ann.pay_with("tok_timeout").await;
    let before = shop.availability(TEA_SET).await;
    let flow = "e8a8a3d4-0000-4000-8000-000000000001";
    let slow = User {
        caller: ann.caller.with("x-correlation-id", flow),
        ..ann
    };
    let order_id = slow.order("k", TEA_SET, 3).await.expect(202)["order_id"].clone();
    let order_id = order_id.as_str().unwrap();

    let order = slow.ended(order_id).await;
    assert_eq!(order["status"], "failed");
    assert_eq!(order["reason"], "reservation_expired");
    eventually(SOON, async || shop.availability(TEA_SET).await == before).await;
    let events = shop
        .events(flow, &["inventory.released", "notification.sent"])
        .await;
    let seen = types(&events);
    let place = |wanted: &str| seen.iter().position(|event| *event == wanted).unwrap();
    assert!(
        place("inventory.reservation.expired") < place("order.failed"),
        "{seen:?}"
    );
    // A saga takes back what was done before it says that all has failed.
    let [first, then] = match shop.flow {
        OrderFlow::Choreography => ["order.failed", "inventory.released"],
        OrderFlow::Orchestration => ["inventory.released", "order.failed"],
    };
    assert!(place(first) < place(then), "{seen:?}");
    // What was asked of the provider is taken back, so that it can't be charged later.
    eventually(SOON, async || {
        shop.charges(order_id)
            .await
            .iter()
            .any(|charge| charge["status"] == "voided")
    })
    .await;
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_finds_everything_again() {
    second_start(CONFIG).await;
}

pub(crate) async fn second_start(config: &str) {
    let shop = TestStore::start_with(config).await;
    let ann = shop.user("ann");
    let order_id = ann.order("k", TEA_SET, 1).await.expect(202)["order_id"].clone();
    let order = ann.ended(order_id.as_str().unwrap()).await;
    eventually(SOON, async || shop.availability(TEA_SET).await.1 == 0).await;
    let stock = shop.availability(TEA_SET).await;
    let folder = shop.stop().await;

    let shop = TestStore::start_in(folder, config).await;
    let ann = shop.user("ann");
    assert_eq!(ann.order_state(order_id.as_str().unwrap()).await, order);
    assert_eq!(shop.availability(TEA_SET).await, stock);
    let again = ann.order("k", TEA_SET, 1).await.expect(202);
    assert_eq!(again["order_id"], order_id, "keys outlive a restart");
    let found = shop
        .gateway
        .get("/api/search?q=stoneware+tea")
        .await
        .expect(200);
    assert_eq!(found["items"][0]["id"], TEA_SET);
    shop.stop().await;
}
