//! Customers who do not give up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use trunkline_testkit::eventually;

use super::process::World;
use crate::store::address;
use trunkline_testkit::http::Caller;

/// What customers buy: plenty of each is in stock.
pub(crate) const GOODS_COUNT: usize = 6;
/// Long enough for a few orders on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(90);
/// A pause between two orders of one customer.
const PAUSE: Duration = Duration::from_millis(60);

/// Customers, each with a card of another kind.
pub(crate) struct Customers {
    users: Vec<Customer>,
    goods: Vec<String>,
}

#[derive(Clone)]
struct Customer {
    name: String,
    token: String,
}

/// An order as customers see it.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) number: String,
    pub(crate) status: String,
    pub(crate) items: Vec<(String, u64)>,
    pub(crate) amount_minor: i64,
}

/// Customers at work.
pub(crate) struct Shopping {
    tasks: JoinSet<Vec<String>>,
    closing: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
}

impl Customers {
    /// Gives each customer a token and a card.
    pub(crate) async fn open(world: &World) -> Self {
        let cards = [
            "tok_visa",
            "tok_visa",
            "tok_declined",
            "tok_late",
            "tok_flaky",
            "tok_timeout",
        ];
        let mut users = Vec::new();
        for (number, card) in cards.into_iter().enumerate() {
            let name = format!("customer-{number}");
            let token = world.token(&name);
            let caller = world.gateway.bearing(&token);
            caller
                .put("/api/payments/card", json!({ "card_token": card }))
                .await
                .expect(200);
            users.push(Customer { name, token });
        }
        let goods = super::proof::stock(world).await.into_keys().collect();
        Self { users, goods }
    }

    /// Sends everybody shopping.
    pub(crate) fn shop(&self, world: &World) -> Shopping {
        let closing = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for customer in self.users.clone() {
            let caller = world.gateway.bearing(&customer.token);
            let (goods, closing) = (self.goods.clone(), Arc::clone(&closing));
            let count = Arc::clone(&count);
            tasks.spawn(async move {
                let mut accepted = Vec::new();
                for number in 0.. {
                    if closing.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("{}-{number}", customer.name);
                    let caller = caller.with("idempotency-key", key);
                    if let Some(id) = order(&caller, &goods, number).await {
                        accepted.push(id);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                accepted
            });
        }
        Shopping {
            tasks,
            closing,
            accepted: count,
        }
    }

    /// Every order that the store knows of these customers.
    pub(crate) async fn orders(&self, world: &World) -> Vec<Order> {
        let mut orders = Vec::new();
        for customer in &self.users {
            let caller = world.gateway.bearing(&customer.token);
            let mut cursor = String::new();
            loop {
                let path = format!("/api/v1/orders?limit=100{cursor}");
                let page = caller.get(&path).await.expect(200);
                orders.extend(page["items"].as_array().unwrap().iter().map(read));
                let Some(next) = page["next_cursor"].as_str() else {
                    break;
                };
                cursor = format!("&cursor={next}");
            }
        }
        orders
    }
}

impl Shopping {
    /// Waits until so many orders were accepted: what is killed has to work in between, however slow the machine is.
    pub(crate) async fn reaches(&self, count: usize) {
        eventually(PATIENCE, async || {
            self.accepted.load(Ordering::Relaxed) >= count
        })
        .await;
    }

    /// Lets everybody finish the order at hand; the ids of all accepted orders.
    pub(crate) async fn close(self) -> Vec<String> {
        self.closing.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.concat()
    }
}

/// Orders until the store says yes. It may say in between that it is not there, that it is busy with
/// this very order, or nothing at all. What is sold out is not ordered.
async fn order(caller: &Caller, goods: &[String], number: usize) -> Option<String> {
    let quantity = 1 + number % 3;
    let items = [number, number + 1]
        .map(|choice| json!({ "product_id": goods[choice % goods.len()], "quantity": quantity }));
    let body = json!({ "items": items, "shipping_address": address() }).to_string();
    loop {
        let answer = caller
            .try_send(Method::POST, "/api/v1/orders", Some(body.clone()))
            .await;
        match answer {
            Ok(answer) if answer.status == 202 => {
                return Some(answer.json()["order_id"].as_str().unwrap().to_owned());
            }
            Ok(answer) => {
                if answer.json()["code"] == "stock_insufficient" {
                    return None;
                }
                // Its last try may still run, or the next start has not given its key back yet.
                let runs =
                    answer.status == 409 && answer.json()["code"] == "idempotency_key_running";
                let passing = answer.status.is_server_error() || runs;
                assert!(passing, "{answer:?}");
            }
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn read(order: &Value) -> Order {
    let text = |name: &str| order[name].as_str().unwrap().to_owned();
    let items = order["items"].as_array().unwrap().iter().map(|item| {
        (
            item["product_id"].as_str().unwrap().to_owned(),
            item["quantity"].as_u64().unwrap(),
        )
    });
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an amount of a few hundred"
    )]
    let amount_minor = (order["total"].as_f64().unwrap() * 100.0).round() as i64;
    Order {
        id: text("order_id"),
        number: text("order_number"),
        status: text("status"),
        items: items.collect(),
        amount_minor,
    }
}
