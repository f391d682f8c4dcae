//! The command against a platform: what it asks is what the admin API answers.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use trunkline_call::Client;
use trunkline_core::{Context, Env, Error, Event, Result};
use trunkline_saga::Flow;
use trunkline_service::{Config, Cx, Platform, Running, Service};

use crate::kit::{Ran, run};

/// Long enough for anything that ends by itself.
const SOON: Duration = Duration::from_secs(20);
const TOKEN: &str = "a token for the admin";

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "tea.sold", version = "1.0", topic = "sales", key = sale)]
struct TeaSold {
    sale: String,
}

#[derive(Default)]
struct Stock {
    is_empty: AtomicBool,
}

async fn sell(cx: Cx, Json(sale): Json<String>) -> Result<Json<()>> {
    cx.publish(TeaSold { sale }).await.map(Json)
}

async fn take(cx: Cx, _: Event<TeaSold>) -> Result<()> {
    if cx.state::<Arc<Stock>>()?.is_empty.load(Ordering::SeqCst) {
        return Err(Error::invalid("stock_empty", "there is no tea left"));
    }
    Ok(())
}

struct Shop {
    stock: Arc<Stock>,
    running: Running,
    _folder: TempDir,
}

impl Shop {
    async fn open() -> Self {
        let stock = Arc::new(Stock::default());
        let shop = Service::new("shop")
            .state(stock.clone())
            .publishes::<TeaSold>()
            .post("/sell", sell)
            .on(take);
        let flow = Flow::named("sale", "sale")
            .starts_with("tea.sold")
            .succeeds_on("tea.sold");
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.data = folder.path().join("data");
        config.bus = "memory:".to_owned();
        config.admin.address = ([127, 0, 0, 1], 0).into();
        config.admin.token = Some(TOKEN.to_owned());
        let platform = Platform::new("teas").service(shop).flow(flow);
        let running = platform.start(config).await.unwrap();
        Self {
            stock,
            running,
            _folder: folder,
        }
    }

    async fn sell(&self, sale: &str) {
        let channel = self.running.network().channel("test", "shop");
        let client = Client::new(channel, Context::root(&Env::system()));
        client.post("/sell").json(&sale).send_empty().await.unwrap();
    }

    fn args<'a>(&self, address: &'a str, args: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["--admin", address, "--token", TOKEN];
        all.extend(args);
        all
    }

    async fn run(&self, args: &[&str]) -> Ran {
        let address = self.running.admin_address().to_string();
        run(&self.args(&address, args)).await
    }

    /// What a command prints as JSON.
    async fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        let ran = self.run(&all).await;
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
        serde_json::from_str(&ran.out).unwrap()
    }

    /// Runs a command until it says what is waited for.
    async fn until(&self, args: &[&str], says: &str) -> Ran {
        let told = async {
            loop {
                let ran = self.run(args).await;
                if ran.out.contains(says) {
                    return ran;
                }
            }
        };
        timeout(SOON, told).await.expect("it says so in the end")
    }

    fn follow(&self, args: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
        let address = self.running.admin_address().to_string();
        let mut child = Command::new(env!("CARGO_BIN_EXE_trunkline"))
            .args(self.args(&address, args))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        (child, lines)
    }
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Value {
    let line = timeout(SOON, lines.next_line()).await.unwrap().unwrap();
    serde_json::from_str(&line.expect("one more line")).unwrap()
}

#[tokio::test]
async fn every_view_of_a_platform_is_understood() {
    let shop = Shop::open().await;
    shop.sell("s-1").await;
    let ran = shop
        .until(&["events", "--business-key", "s-1"], "tea.sold")
        .await;
    assert_eq!(ran.out.lines().count(), 1, "{ran:?}");
    assert_eq!(shop.json(&["health"]).await["status"], "healthy");
    let topology = shop.run(&["topology"]).await;
    assert!(topology.out.contains("tea.sold"), "{topology:?}");
    let ran = shop.run(&["subscriptions", "list"]).await;
    assert!(ran.out.contains("shop"), "{ran:?}");
    let ran = shop.run(&["subscriptions", "pause", "shop"]).await;
    assert!(ran.out.contains("paused"), "{ran:?}");
    let ran = shop.run(&["subscriptions", "resume", "shop"]).await;
    assert!(ran.out.contains("running"), "{ran:?}");
    let ran = shop.run(&["flows", "show", "s-1"]).await;
    assert!(ran.out.contains("sale s-1"), "{ran:?}");
    let ran = shop.run(&["flows", "list"]).await;
    assert!(ran.out.contains("s-1"), "{ran:?}");
    let outbox = shop.json(&["outbox", "list"]).await;
    assert_eq!(outbox["outboxes"][0]["service"], "shop", "{outbox}");
    let ran = shop.run(&["dead-letters", "show", "nobody"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("dead_letter_unknown"), "{ran:?}");
    let address = shop.running.admin_address().to_string();
    let ran = run(&["--admin", &address, "topology"]).await;
    assert!(ran.err.contains("TRUNKLINE_ADMIN_TOKEN"), "{ran:?}");
    shop.running.shutdown().await;
}

#[tokio::test]
async fn dead_letters_are_tried_edited_replayed_and_discarded() {
    let shop = Shop::open().await;
    shop.stock.is_empty.store(true, Ordering::SeqCst);
    for sale in ["s-1", "s-2"] {
        shop.sell(sale).await;
        shop.until(&["dead-letters", "list"], sale).await;
    }
    let dry = &["dead-letters", "replay", "--all", "--dry-run"];
    let ran = shop.run(dry).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let failing = ran.out.lines().filter(|line| line.contains("fail  "));
    assert_eq!(failing.count(), 2, "{ran:?}");
    assert!(ran.out.contains("there is no tea left"), "{ran:?}");

    shop.stock.is_empty.store(false, Ordering::SeqCst);
    let ran = shop.run(dry).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let passing = ran.out.lines().filter(|line| line.contains("pass  "));
    assert_eq!(passing.count(), 2, "{ran:?}");
    let letters = shop.json(&["dead-letters", "list"]).await;
    let letters = letters["dead_letters"].as_array().unwrap().clone();
    assert_eq!(letters.len(), 2, "a dry run leaves them where they are");

    let id = letters[0]["id"].as_str().unwrap();
    let data = r#"{"sale": "s-1"}"#;
    let ran = shop
        .run(&["dead-letters", "edit", id, "--data", data])
        .await;
    assert!(ran.out.contains("before the first edit"), "{ran:?}");
    let ran = shop.run(&["dead-letters", "replay", id]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = shop.run(&["dead-letters", "discard", "--key", "s-2"]).await;
    assert_eq!(ran.out, "1 discarded\n", "{ran:?}");
    let left = shop.json(&["dead-letters", "list"]).await;
    assert_eq!(left["dead_letters"], serde_json::json!([]));
    shop.running.shutdown().await;
}

#[tokio::test]
async fn events_are_followed_as_they_happen_and_until_the_platform_stops() {
    let shop = Shop::open().await;
    shop.sell("s-0").await;
    shop.until(&["events"], "s-0").await;
    let follow = ["--json", "events", "--follow", "--type", "tea.sold"];
    let (mut child, mut lines) = shop.follow(&follow);
    for sale in ["s-0", "s-1", "s-2"] {
        if sale != "s-0" {
            shop.sell(sale).await;
        }
        let event = next(&mut lines).await;
        assert_eq!(event["data"]["sale"], sale, "{event}");
    }
    // Who follows holds no shutdown back, and finds out that nobody is there any more.
    timeout(SOON, shop.running.shutdown()).await.unwrap();
    let ended = timeout(SOON, child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(3));
}
