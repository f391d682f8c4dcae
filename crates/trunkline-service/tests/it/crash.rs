//! The process is killed under load, again and again, and nothing that it accepted is lost or done twice.
//!
//! The platform runs in a child, which is this very test in another role: files for the log and the stores, a gateway in
//! front. Customers send each order, always with the same key, until they have an answer.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use trunkline_core::Env;
use trunkline_gateway::{Config as Gateway, Route, Service as Behind};
use trunkline_service::Config;
use trunkline_testkit::{Child, eventually};

use crate::sample::{Ask, SOON, Switches, config, platform};

/// This test, as the harness names it.
const NAME: &str = "crash::nothing_accepted_is_lost_or_done_twice_when_the_process_is_killed";
/// Tells the child where its data is.
const FOLDER: &str = "TRUNKLINE_CRASH_FOLDER";
/// How often the process is killed.
const KILLS: usize = 12;
/// How many customers there are.
const CUSTOMERS: usize = 6;
const ITEMS: [&str; 3] = ["tea", "milk", "sugar"];

/// Where the child listens, once it does.
fn told(folder: &Path) -> PathBuf {
    folder.join("addresses")
}

/// The child: runs until it is killed.
async fn be_the_platform(folder: &Path) {
    let behind = |name: &str, prefix: &str| {
        let mut service = Behind::new(name);
        service.routes.push(Route::new(name, prefix));
        service
    };
    let gateway = Gateway::default()
        .service(behind("orders", "/orders"))
        .service(behind("stock", "/stock"));
    let platform = platform(&Arc::new(Switches::default())).gateway(gateway, None);
    let mut config = config(folder);
    config.bus = Config::default().bus;
    assert!(config.bus.starts_with("log:"), "{}", config.bus);
    let running = platform.start(config).await.unwrap();
    let addresses = json!([running.gateway_address(), running.admin_address()]);
    let new = folder.join("addresses.new");
    std::fs::write(&new, addresses.to_string()).unwrap();
    std::fs::rename(new, told(folder)).unwrap();
    std::future::pending::<()>().await;
}

/// The process that is killed, and where it listens.
struct World {
    folder: PathBuf,
    child: Child,
    place: watch::Sender<[SocketAddr; 2]>,
}

impl World {
    async fn start(folder: &Path) -> Self {
        let child = spawn(folder);
        let place = watch::Sender::new(listening(folder).await);
        Self {
            folder: folder.to_owned(),
            child,
            place,
        }
    }

    async fn kill_and_start(&mut self) {
        let status = self.child.kill().unwrap();
        assert!(Child::was_killed(status), "{status}");
        std::fs::remove_file(told(&self.folder)).unwrap();
        self.child = spawn(&self.folder);
        self.place.send_replace(listening(&self.folder).await);
    }

    async fn get(&self, path: &str) -> Value {
        let [gateway, admin] = *self.place.borrow();
        let at = if path.starts_with("/api") {
            admin
        } else {
            gateway
        };
        let answer = Ask::at(at).get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.body
    }
}

fn spawn(folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([NAME, "--exact"])
        .env(FOLDER, folder)
        .stdout(Stdio::null());
    Child::spawn(&mut command).unwrap()
}

async fn listening(folder: &Path) -> [SocketAddr; 2] {
    let found = || std::fs::read(told(folder)).ok();
    eventually(SOON, async || found().is_some()).await;
    serde_json::from_slice(&found().unwrap()).unwrap()
}

/// What the customers were promised.
#[derive(Default)]
struct Accepted {
    orders: Mutex<Vec<String>>,
    count: AtomicUsize,
    closed: AtomicBool,
}

/// One customer: orders until the shop closes.
async fn shop(who: usize, accepted: Arc<Accepted>, mut place: watch::Receiver<[SocketAddr; 2]>) {
    for nth in 0.. {
        if accepted.closed.load(Ordering::SeqCst) {
            return;
        }
        let key = format!("customer-{who}-order-{nth}");
        let item = ITEMS.iter().cycle().nth(who + nth).unwrap();
        let body = json!({ "item": item, "quantity": 1 }).to_string();
        let order = loop {
            let [gateway, _] = *place.borrow_and_update();
            let ask = Ask::at(gateway)
                .key(&key)
                .with("content-type", "application/json");
            let path = "/orders/api/v1/orders";
            match ask.try_send(Method::POST, path, body.clone().into()).await {
                Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                    break answer.body["order_id"].as_str().unwrap().to_owned();
                }
                // Killed meanwhile, or not ready yet, or the one who died still holds the key.
                Ok(answer) => assert!([409, 503].contains(&answer.status), "{answer:?}"),
                Err(_) => {}
            }
            drop(timeout(Duration::from_millis(50), place.changed()).await);
        };
        accepted.orders.lock().push(order);
        accepted.count.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_accepted_is_lost_or_done_twice_when_the_process_is_killed() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return be_the_platform(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::start(folder.path()).await;
    let accepted = Arc::new(Accepted::default());
    let customers: JoinSet<()> = (0..CUSTOMERS)
        .map(|who| shop(who, accepted.clone(), world.place.subscribe()))
        .collect();
    let env = Env::system();
    let count = || accepted.count.load(Ordering::SeqCst);
    for _ in 0..KILLS {
        // Well into its work, each time at another moment of it.
        let enough = count() + usize::try_from(5 + env.random_u64() % 25).unwrap();
        eventually(SOON, async || count() >= enough).await;
        world.kill_and_start().await;
    }
    accepted.closed.store(true, Ordering::SeqCst);
    customers.join_all().await;
    let orders = accepted.orders.lock().clone();
    let expected: BTreeSet<_> = orders.iter().cloned().collect();
    assert_eq!(expected.len(), orders.len(), "two keys, one order");

    let tallied = async || world.get("/stock/api/v1/taken/none").await["tallied"].clone();
    let total = json!(orders.len());
    eventually(SOON, async || tallied().await == total).await;
    let confirmed = async || world.get("/orders/api/v1/orders?status=taken").await;
    eventually(SOON, async || confirmed().await == total).await;
    proves(&world, &expected).await;
}

/// Every accepted order is there, handled by all who handle it, and once.
async fn proves(world: &World, expected: &BTreeSet<String>) {
    let placed = world.get("/orders/api/v1/orders").await;
    assert_eq!(
        placed,
        json!(expected.len()),
        "an order that nobody was told of"
    );
    let mut taken = Vec::new();
    for item in ITEMS {
        let of_item = world.get(&format!("/stock/api/v1/taken/{item}")).await;
        // Each handling counts, so a second one would show.
        assert_eq!(of_item["tallied"], expected.len());
        let ids = of_item["orders"].as_array().unwrap().iter();
        taken.extend(ids.map(|id| id.as_str().unwrap().to_owned()));
    }
    assert_eq!(taken.len(), expected.len());
    assert_eq!(&taken.into_iter().collect::<BTreeSet<_>>(), expected);
    let letters = world.get("/api/v1/dead-letters").await;
    assert_eq!(letters["dead_letters"], json!([]));
    let trail = world
        .get("/api/v1/events?type=order.placed&limit=1000")
        .await;
    let told = trail["events"].as_array().unwrap().iter();
    let told: Vec<_> = told
        .map(|event| event["data"]["order_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told.len(), expected.len(), "the trail");
    assert_eq!(&told.into_iter().collect::<BTreeSet<_>>(), expected);
}
