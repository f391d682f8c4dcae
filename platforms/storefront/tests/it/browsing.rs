//! Looking around: lists, search and statistics.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use trunkline_testkit::eventually;

use crate::store::{SOON, TEA_SET, TestStore};

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().unwrap().iter();
    items
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_product_has_the_printed_shape() {
    let shop = TestStore::start().await;
    let answer = shop.gateway.get(&format!("/api/products/{TEA_SET}")).await;
    let product = answer.expect(200);
    assert_eq!(product["id"], TEA_SET);
    assert_eq!(product["name"], "Kestrel Stoneware Tea Set");
    assert!(answer.body.contains("\"price\":29.99"), "{}", answer.body);
    assert_eq!(product["currency"], "USD");
    assert_eq!(product["in_stock"], true);
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_every_product_once() {
    pages(TestStore::start().await).await;
}

pub(crate) async fn pages(shop: TestStore) {
    let mut seen = BTreeSet::new();
    let mut path = "/api/products?limit=100".to_owned();
    loop {
        let page = shop.gateway.get(&path).await.expect(200);
        for id in ids(&page) {
            assert!(seen.insert(id.clone()), "{id} came twice");
        }
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/api/products?limit=100&cursor={cursor}");
    }
    assert!(seen.len() >= 1_000, "{}", seen.len());

    let few = shop
        .gateway
        .get("/api/products?q=tea+set&limit=5")
        .await
        .expect(200);
    assert_eq!(few["items"][0]["name"], "Kestrel Stoneware Tea Set");
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn search_follows_the_catalogue_and_the_stock() {
    search(TestStore::start().await).await;
}

pub(crate) async fn search(shop: TestStore) {
    let search = async |q: &str| {
        shop.gateway
            .get(&format!("/api/search?q={q}"))
            .await
            .expect(200)
    };
    eventually(SOON, async || ids(&search("stonew+tea").await) == [TEA_SET]).await;
    let page = shop
        .gateway
        .get("/api/products?q=walnut&limit=100")
        .await
        .expect(200);
    let wanted = page["items"].as_array().unwrap().len().min(20);
    assert!(wanted > 3, "{page}");
    eventually(SOON, async || ids(&search("walnut").await).len() == wanted).await;
    let walnut = search("walnut").await;
    let first = walnut["items"][0]["name"].as_str().unwrap();
    assert!(first.contains("Walnut"), "names come first: {first}");

    // The rest of a product is sold; the index hears of it.
    let hits = search("walnut").await;
    let mut fewest: Option<(String, u64)> = None;
    for hit in hits["items"].as_array().unwrap() {
        let id = hit["id"].as_str().unwrap().to_owned();
        let (_, _, available) = shop.availability(&id).await;
        let left = available;
        if left > 0 && fewest.as_ref().is_none_or(|(_, fewest)| left < *fewest) {
            fewest = Some((id, left));
        }
    }
    let (id, mut left) = fewest.expect("some walnut thing is in stock");
    let ann = shop.user("ann");
    while left > 0 {
        // Few enough in one order that its amount is not declined.
        let pieces = left.min(20);
        let key = format!("k-{left}");
        let quantity = u32::try_from(pieces).unwrap();
        ann.order(&key, &id, quantity).await.expect(202);
        left -= pieces;
    }
    eventually(SOON, async || {
        let hits = search("walnut").await;
        let hit = hits["items"]
            .as_array()
            .unwrap()
            .iter()
            .find(|hit| hit["id"] == *id)
            .cloned();
        hit.is_none_or(|hit| hit["in_stock"] == false)
    })
    .await;
    shop.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_add_up() {
    count(TestStore::start().await).await;
}

pub(crate) async fn count(shop: TestStore) {
    let ann = shop.user("ann");
    let item = json!({ "product_id": TEA_SET, "quantity": 3 });
    ann.caller.post("/api/cart/items", item).await.expect(200);
    for key in ["a", "b"] {
        let accepted = ann.order(key, TEA_SET, 2).await.expect(202);
        ann.ended(accepted["order_id"].as_str().unwrap()).await;
    }
    ann.pay_with("tok_declined").await;
    let accepted = ann.order("c", TEA_SET, 1).await.expect(202);
    ann.ended(accepted["order_id"].as_str().unwrap()).await;

    ann.caller
        .get("/api/analytics/funnel")
        .await
        .refused(403, "role_missing");
    let boss = shop.boss();
    let funnel = json!({
        "cart_pieces": 3,
        "orders_created": 3,
        "orders_paid": 2,
        "orders_confirmed": 2,
    });
    eventually(SOON, async || {
        boss.get("/api/analytics/funnel").await.expect(200) == funnel
    })
    .await;
    eventually(SOON, async || {
        let days = boss.get("/api/analytics/daily").await.expect(200);
        let sum = |name: &str| -> f64 {
            days["items"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|day| day[name].as_f64())
                .sum()
        };
        sum("orders_failed") == 1.0 && (sum("revenue") - 119.96).abs() < 0.001
    })
    .await;
    let top = boss.get("/api/analytics/top-products").await.expect(200);
    assert_eq!(
        top["items"],
        json!([{ "product_id": TEA_SET, "quantity": 4, "revenue": 119.96 }])
    );
    shop.stop().await;
}
