//! What must hold when all is calm again.

use std::collections::{BTreeMap, BTreeSet};

use hyper::Method;
use serde_json::{Value, json};
use storefront::order::OrderFlow;

use super::customers::{GOODS_COUNT, Order};
use super::process::World;

/// Pieces on hand of the goods that customers buy.
pub(crate) type Stock = BTreeMap<String, u64>;

/// The goods of which there is most, among those that cost little.
pub(crate) async fn stock(world: &World) -> Stock {
    let page = world
        .gateway
        .get("/api/products?q=notebook&limit=100")
        .await
        .expect(200);
    let mut goods = vec![(u64::MAX, crate::store::TEA_SET.to_owned())];
    for product in page["items"].as_array().unwrap() {
        let id = product["id"].as_str().unwrap();
        goods.push((on_hand(world, id).await.0, id.to_owned()));
    }
    goods.sort_by(|a, b| b.cmp(a));
    let mut stock = Stock::new();
    for (_, id) in goods.into_iter().take(GOODS_COUNT) {
        stock.insert(id.clone(), on_hand(world, &id).await.0);
    }
    stock
}

async fn on_hand(world: &World, product_id: &str) -> (u64, u64) {
    let stock = world
        .gateway
        .get(&format!("/api/inventory/{product_id}"))
        .await
        .expect(200);
    (
        stock["on_hand"].as_u64().unwrap(),
        stock["reserved"].as_u64().unwrap(),
    )
}

/// Whether nothing is left to do: nothing to send, nothing to handle, nothing scheduled.
pub(crate) async fn calm(world: &World) -> bool {
    let get = async |path: &str| {
        let answer = world.admin.try_send(Method::GET, path, None).await.ok()?;
        (answer.status == 200).then(|| answer.json())
    };
    let Some(outboxes) = get("/api/v1/outbox").await else {
        return false;
    };
    let Some(subscriptions) = get("/api/v1/subscriptions").await else {
        return false;
    };
    for state in ["running", "waiting", "compensating"] {
        let Some(sagas) = get(&format!("/api/v1/sagas?state={state}&limit=1")).await else {
            return false;
        };
        if sagas["sagas"] != json!([]) {
            return false;
        }
    }
    let sum = |value: &Value, names: &[&str]| numbers(value, names).into_iter().sum::<u64>();
    sum(&outboxes, &["pending", "scheduled", "held"]) == 0
        && sum(&subscriptions, &["lag", "in_flight"]) == 0
}

/// Every number of one of these names, wherever it stands.
fn numbers(value: &Value, names: &[&str]) -> Vec<u64> {
    match value {
        Value::Array(values) => values
            .iter()
            .flat_map(|value| numbers(value, names))
            .collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match value.as_u64() {
                Some(number) if names.contains(&name.as_str()) => vec![number],
                _ => numbers(value, names),
            })
            .collect(),
        _ => Vec::new(),
    }
}

pub(crate) fn every_accepted_order_ended(accepted: &[String], orders: &[Order]) {
    let known: BTreeSet<_> = orders.iter().map(|order| &order.id).collect();
    assert_eq!(
        known,
        accepted.iter().collect(),
        "one order for each key, and none lost"
    );
    for order in orders {
        assert!(
            matches!(&*order.status, "confirmed" | "failed"),
            "{order:?}"
        );
    }
    let confirmed = orders
        .iter()
        .filter(|order| order.status == "confirmed")
        .count();
    assert!(
        confirmed > 50 && confirmed < orders.len(),
        "{confirmed} of {}",
        orders.len()
    );
    let numbers: BTreeSet<_> = orders.iter().map(|order| &order.number).collect();
    assert_eq!(numbers.len(), orders.len(), "numbers are unique");
}

pub(crate) async fn stock_adds_up(world: &World, before: &Stock, orders: &[Order]) {
    let mut expected = before.clone();
    for order in orders.iter().filter(|order| order.status == "confirmed") {
        for (product_id, quantity) in &order.items {
            *expected.get_mut(product_id).unwrap() -= quantity;
        }
    }
    for (product_id, pieces) in expected {
        assert_eq!(
            on_hand(world, &product_id).await,
            (pieces, 0),
            "{product_id}"
        );
    }
}

pub(crate) async fn each_payment_was_charged_once(world: &World, orders: &[Order]) {
    let ledger = world.provider.get("/v1/charges").await.expect(200);
    let mut taken = BTreeMap::<String, Vec<i64>>::new();
    for charge in ledger.as_array().unwrap() {
        if charge["status"] == "succeeded" {
            let order_id = charge["reference"].as_str().unwrap().to_owned();
            taken
                .entry(order_id)
                .or_default()
                .push(charge["amount"].as_i64().unwrap());
        }
    }
    for order in orders {
        let charged = taken.remove(&order.id).unwrap_or_default();
        let due = if order.status == "confirmed" {
            vec![order.amount_minor]
        } else {
            vec![]
        };
        assert_eq!(charged, due, "{order:?}");
    }
    assert!(taken.is_empty(), "charged for no order: {taken:?}");
}

pub(crate) fn each_mail_was_sent(world: &World, orders: &[Order]) {
    let files = std::fs::read_dir(world.data().join("mail")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let whole = paths.filter(|path| path.extension().is_some_and(|kind| kind == "eml"));
    let mails: Vec<_> = whole
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let mut told = BTreeMap::<&str, usize>::new();
    for mail in &mails {
        let subject = mail
            .lines()
            .find(|line| line.starts_with("Subject: "))
            .unwrap();
        if let Some(number) = subject.split(' ').find(|word| word.starts_with("ORD-")) {
            assert!(
                mail.lines().any(|line| line.starts_with("Message-ID: <")),
                "{mail}"
            );
            *told.entry(number).or_default() += 1;
        }
    }
    for order in orders {
        // A mail that is sent twice has the same id, and so the same file.
        assert_eq!(told.get(&*order.number), Some(&1), "{order:?}");
    }
}

pub(crate) async fn no_event_was_lost(world: &World, orders: &[Order]) {
    let ids = |status: &str| -> BTreeSet<String> {
        let of_status = orders
            .iter()
            .filter(|order| status.is_empty() || order.status == status);
        of_status.map(|order| order.id.clone()).collect()
    };
    assert_eq!(trail(world, "order.created").await, ids(""));
    assert_eq!(trail(world, "order.confirmed").await, ids("confirmed"));
    let (failed, released) = (
        trail(world, "order.failed").await,
        trail(world, "inventory.released").await,
    );
    assert!(failed.is_superset(&ids("failed")));
    // Orders that were given up before they existed have failed too.
    assert_eq!(failed, released, "the stock of each failed order is free");
    let reserved = trail(world, "inventory.reserved").await;
    assert_eq!(reserved, ids("").union(&failed).cloned().collect());
    let paid = trail(world, "payment.success").await;
    assert!(paid.is_superset(&ids("confirmed")));
    let told = trail(world, "notification.sent").await;
    assert!(told.is_superset(&ids("")), "each order's mail was told of");

    let letters = world.admin.get("/api/v1/dead-letters").await.expect(200);
    assert!(numbers(&letters, &["attempts"]).is_empty(), "{letters}");
}

/// By orchestration each order has a saga, which has ended as the order has; by choreography none has.
pub(crate) async fn each_saga_ended(world: &World, flow: OrderFlow, orders: &[Order]) {
    let mut ended = BTreeMap::new();
    let mut after = String::new();
    loop {
        let path = format!("/api/v1/sagas?limit=1000{after}");
        let page = world.admin.get(&path).await.expect(200);
        for saga in page["sagas"].as_array().unwrap() {
            let text = |name: &str| saga[name].as_str().unwrap().to_owned();
            // One that failed had nothing to undo.
            let state = text("state").replace("failed", "compensated");
            assert_eq!(ended.insert(text("key"), state), None, "{saga}");
        }
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    let mut expected = BTreeMap::new();
    if flow == OrderFlow::Orchestration {
        for order in orders {
            let state = match &*order.status {
                "confirmed" => "completed",
                _ => "compensated",
            };
            expected.insert(order.id.clone(), state.to_owned());
        }
    }
    assert_eq!(ended, expected);
}

/// The orders that the events of one type are about, each of which must have exactly one.
async fn trail(world: &World, event_type: &str) -> BTreeSet<String> {
    let mut orders = BTreeSet::new();
    let mut after = String::new();
    loop {
        let path = format!("/api/v1/events?type={event_type}&limit=1000{after}");
        let page = world.admin.get(&path).await.expect(200);
        for event in page["events"].as_array().unwrap() {
            let data = &event["data"];
            let about = data["order_id"]
                .as_str()
                .or_else(|| data["subject_id"].as_str())
                .unwrap();
            assert!(
                orders.insert(about.to_owned()),
                "a second {event_type} of {about}"
            );
        }
        let Some(next) = page["next"].as_u64() else {
            return orders;
        };
        after = format!("&after={next}");
    }
}
