//! Certificates and roots that change while calls are made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use trunkline_security::RotateStep;
use trunkline_service::Running;
use trunkline_testkit::eventually;

use super::shop::{DEVELOPMENT, Shop};
use crate::ask::Ask;
use crate::sample::SOON;

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_while_every_certificate_and_the_root_change() {
    let shop = Shop::start(DEVELOPMENT).await;
    let (stop, made) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let (stop, made) = (stop.clone(), made.clone());
        let network = shop.orders.network().clone();
        callers.spawn(async move {
            while !stop.load(Ordering::SeqCst) {
                let answer = Ask::new(network.clone(), "orders").get("/ask").await;
                assert_eq!((answer.status, answer.body), (200, json!("stock of oats")));
                made.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let calls_go_on = async || {
        let before = made.load(Ordering::SeqCst);
        eventually(SOON, async || made.load(Ordering::SeqCst) > before + 20).await;
    };
    calls_go_on().await;
    let mut authority = shop.authority().settle(Duration::ZERO);
    for step in [RotateStep::Begin, RotateStep::Switch, RotateStep::Finish] {
        authority.rotate(step).unwrap();
        for (running, name) in parts(&shop) {
            // Without waiting for the next look at the files.
            running.certificates(name).unwrap().reload().unwrap();
        }
        calls_go_on().await;
    }
    // Two hours instead of a day: noticed by each process by itself.
    let before = shop.stock.certificates("stock").unwrap().expires_at();
    for (_, name) in parts(&shop) {
        let two_hours = Duration::from_secs(7_200);
        authority.issue(name, &[], two_hours).unwrap();
    }
    for (running, name) in parts(&shop) {
        eventually(SOON, async || {
            running.certificates(name).unwrap().expires_at() < before
        })
        .await;
    }
    calls_go_on().await;
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    shop.stop().await;
}

fn parts(shop: &Shop) -> [(&Running, &'static str); 4] {
    [
        (&shop.stock, "stock"),
        (&shop.orders, "orders"),
        (&shop.front, "gateway"),
        (&shop.front, "console"),
    ]
}
