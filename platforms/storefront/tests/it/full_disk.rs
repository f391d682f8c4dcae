//! The disk fills up while customers order, and is freed again. The store runs on a small file system of
//! its own, in a mount namespace that the kernel takes away with it.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use trunkline_testkit::{Child, eventually, free_port};

use crate::store::{SOON, TEA_SET, address};
use trunkline_testkit::http::{Answer, Caller};

/// `$1` becomes the small file system; the rest is the store's command.
const MOUNTED: &str = "mount -t tmpfs -o size=48m,mode=0700 tmpfs \"$1\" && shift && exec \"$@\"";

/// Each refusal is to be seen as it is: nothing is tried again, and no service is left alone.
const AS_IT_IS: &str = "[call.\"*\"]\nattempts_max = 1\n\
    breaker = { failures_max = 0, rate_percent = 0 }\n";

struct Cramped {
    gateway: Caller,
    admin: Caller,
    folder: TempDir,
    store: Child,
}

impl Cramped {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let addresses = [(); 3].map(|()| format!("127.0.0.1:{}", free_port().unwrap()));
        let log = File::create(folder.path().join("store.log")).unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let config = folder.path().join("store.toml");
        std::fs::write(&config, AS_IT_IS).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--map-root-user", "--mount", "sh", "-c", MOUNTED, "sh"])
            .arg(&data)
            .arg(env!("CARGO_BIN_EXE_storefront"))
            .arg("--config")
            .arg(&config)
            .arg("--data")
            .arg(&data);
        for (option, address) in ["--gateway", "--admin", "--sandbox"].iter().zip(&addresses) {
            command.args([option, &**address]);
        }
        command.envs([
            ("TRUNKLINE__EVENTS__RETRY_INITIAL_MS", "1"),
            ("TRUNKLINE__EVENTS__RETRY_MAX_MS", "20"),
        ]);
        let store = Child::spawn(command.stdout(Stdio::null()).stderr(log)).unwrap();
        let [gateway, admin, _] = addresses.map(|at| Caller::new(format!("http://{at}")));
        let mut cramped = Self {
            gateway,
            admin,
            folder,
            store,
        };
        eventually(SOON, async || {
            let ended = cramped.store.process().try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", cramped.log());
            let ready = cramped.admin.try_send(Method::GET, "/health/ready", None);
            let greeted = std::fs::read_to_string(cramped.file("demo-user.header"));
            ready.await.is_ok_and(|answer| answer.status == 200)
                && greeted.is_ok_and(|header| header.ends_with('\n'))
        })
        .await;
        cramped
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("store.log")).unwrap()
    }

    /// A file on the store's own file system, as it is seen from here.
    fn file(&self, name: &str) -> PathBuf {
        let data = self.folder.path().join("data").join(name);
        let root = PathBuf::from(format!("/proc/{}/root", self.store.id()));
        root.join(data.strip_prefix("/").unwrap())
    }

    fn fill(&self) {
        let mut ballast = File::create(self.file("ballast")).unwrap();
        for size in [1 << 20, 1 << 10, 1] {
            let block = vec![0; size];
            while ballast.write_all(&block).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.file("ballast")).unwrap();
    }
}

/// Customers who send each order, always with the same key, until it is accepted.
#[derive(Clone)]
struct Customers {
    caller: Caller,
    closing: Arc<AtomicBool>,
    refusals: Arc<AtomicUsize>,
    accepted: Arc<Mutex<Vec<String>>>,
}

impl Customers {
    fn of(cramped: &Cramped) -> Self {
        let header = std::fs::read_to_string(cramped.file("demo-user.header")).unwrap();
        let token = header.trim().strip_prefix("Authorization: Bearer ");
        Self {
            caller: cramped.gateway.bearing(token.unwrap()),
            closing: Arc::default(),
            refusals: Arc::default(),
            accepted: Arc::default(),
        }
    }

    async fn order(&self, key: &str) -> Answer {
        let order = json!({
            "items": [{ "product_id": TEA_SET, "quantity": 1 }],
            "shipping_address": address(),
        });
        let caller = self.caller.with("idempotency-key", key);
        caller.post("/api/v1/orders", order).await
    }

    async fn shop(self, name: usize) {
        for number in 0.. {
            if self.closing.load(Ordering::Relaxed) {
                return;
            }
            loop {
                let answer = self.order(&format!("{name} {number}")).await;
                if answer.status == 202 {
                    let order_id = answer.json()["order_id"].as_str().unwrap().to_owned();
                    self.accepted.lock().unwrap().push(order_id);
                    break;
                }
                // A request that was cut off within may hold its key for a while.
                if let Some(pause) = answer
                    .header("retry-after")
                    .filter(|_| answer.status == 409)
                {
                    answer.refused(409, "idempotency_key_running");
                    tokio::time::sleep(Duration::from_secs(pause.parse().unwrap())).await;
                    continue;
                }
                clear(&answer);
                self.refusals.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn until_accepted(&self, more: usize) {
        let wanted = self.accepted.lock().unwrap().len() + more;
        eventually(SOON, async || self.accepted.lock().unwrap().len() >= wanted).await;
    }

    async fn until_refused(&self, more: usize) {
        let wanted = self.refusals.load(Ordering::Relaxed) + more;
        eventually(SOON, async || {
            self.refusals.load(Ordering::Relaxed) >= wanted
        })
        .await;
    }
}

/// What a customer reads while the disk is full.
fn clear(answer: &Answer) -> Value {
    let problem = answer.refused(503, "store_disk_full");
    assert_eq!(problem["retry"], "transient");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("disk") && detail.contains("full"),
        "{detail}"
    );
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_clearly_and_loses_nothing() {
    let cramped = Cramped::start().await;
    let customers = Customers::of(&cramped);
    let mut shopping = JoinSet::new();
    for name in 0..2 {
        shopping.spawn(customers.clone().shop(name));
    }
    customers.until_accepted(10).await;
    for _ in 0..2 {
        cramped.fill();
        // What was begun is tried far more often meanwhile than it would be before it is parked.
        customers.until_refused(300).await;
        let product = format!("/api/products/{TEA_SET}");
        cramped.gateway.get(&product).await.expect(200);
        cramped.free();
        customers.until_accepted(10).await;
    }
    customers.closing.store(true, Ordering::Relaxed);
    shopping.join_all().await;

    // It goes on by itself, and every order that was accepted is paid.
    let accepted = customers.accepted.lock().unwrap().clone();
    for order_id in &accepted {
        let path = format!("/api/v1/orders/{order_id}");
        eventually(SOON, async || {
            let order = customers.caller.get(&path).await.expect(200);
            order["status"] == "confirmed"
        })
        .await;
    }
    let stock = format!("/api/inventory/{TEA_SET}");
    eventually(SOON, async || {
        let stock = cramped.gateway.get(&stock).await.expect(200);
        // What was held for an order that was refused in the end is free when its time is up.
        stock["on_hand"].as_u64().unwrap() + accepted.len() as u64 == 5_000
    })
    .await;
    let letters = cramped.admin.get("/api/v1/dead-letters").await.expect(200);
    assert_eq!(letters["dead_letters"], json!([]));
}
