//! A store whose services run in processes of their own, as `storefront up --processes` and `storefront run` start them.

use std::path::Path;
use std::process::{Command, Stdio};

use storefront::{
    analytics, auth, cart, inventory, notification, order, payment, product, search, user,
};
use trunkline_testkit::{Child, Processes, free_port};

use crate::collector::Collector;
use trunkline_testkit::http::Caller;

/// Services that share a process in a store of two, and those of the other; the gateway leads.
const ORDERS: &[&str] = &[order::NAME, payment::NAME, inventory::NAME];
const REST: &[&str] = &[
    "gateway",
    user::NAME,
    auth::NAME,
    product::NAME,
    cart::NAME,
    notification::NAME,
    search::NAME,
    analytics::NAME,
];

pub(crate) struct Apart {
    /// The gateway's URL, and the admin API's.
    pub(crate) addresses: [String; 2],
    pub(crate) provider: String,
    processes: Processes,
    /// In the order in which they end.
    stores: Vec<Child>,
    _sandbox: Child,
    collector: Collector,
}

impl Apart {
    /// Each service in a process of its own, under one that keeps them running.
    pub(crate) async fn start(folder: &Path, config: &str) -> Self {
        Self::start_with(folder, config, |place| {
            let mut store = command();
            store.args(["up", "--processes"]);
            place.lead(&mut store);
            place.pay(&mut store);
            vec![store]
        })
        .await
    }

    /// Two processes, each with some of the services.
    pub(crate) async fn start_two(folder: &Path, config: &str) -> Self {
        let services = ORDERS.iter().chain(&REST[1..]);
        let urls: Vec<(String, String)> = services
            .map(|name| {
                let name = name.to_ascii_uppercase().replace('-', "_");
                let url = format!("http://127.0.0.1:{}", free_port().unwrap());
                (format!("TRUNKLINE__SERVICE__{name}__URL"), url)
            })
            .collect();
        Self::start_with(folder, config, |place| {
            let process = |services: &[&str]| {
                let mut store = command();
                store.arg("run").args(services).envs(urls.clone());
                store
            };
            let (mut rest, mut orders) = (process(REST), process(ORDERS));
            place.lead(&mut rest);
            place.pay(&mut orders);
            orders.env("TRUNKLINE__ADMIN__ADDRESS", "127.0.0.1:0");
            vec![rest, orders]
        })
        .await
    }

    async fn start_with(
        folder: &Path,
        config: &str,
        commands: impl FnOnce(&Place) -> Vec<Command>,
    ) -> Self {
        let collector = Collector::start().await;
        let file = folder.join("trunkline.toml");
        let telemetry = format!("[telemetry]\notlp = \"{}\"\n", collector.url);
        std::fs::write(&file, format!("{config}{telemetry}")).unwrap();
        let place = Place::new();
        let mut sandbox = command();
        sandbox.args(["sandbox", "--late-ms", "800", "--listen", &place.provider]);
        sandbox.stdout(Stdio::null());
        let sandbox = Child::spawn(&mut sandbox).unwrap();
        let processes = Processes::new(folder.join("store.log"));
        let stores = commands(&place).into_iter().map(|mut store| {
            store.arg("--quiet").arg("--config").arg(&file);
            store.arg("--data").arg(folder.join("data"));
            processes.spawn(&mut store)
        });
        let started = Self {
            stores: stores.collect(),
            processes: processes.clone(),
            addresses: [&place.gateway, &place.admin].map(|at| format!("http://{at}")),
            provider: format!("http://{}", place.provider),
            _sandbox: sandbox,
            collector,
        };
        let admin = Caller::new(started.addresses[1].clone());
        processes.until_ok(&admin, "/health").await;
        started
    }

    /// Asks it to end, as Ctrl-C does, and waits for all of it.
    pub(crate) async fn stop(self) -> Collector {
        for store in self.stores {
            store.terminate().unwrap();
            self.processes.has_ended(store).await;
        }
        self.collector
    }
}

/// Where a store and its payment provider listen.
struct Place {
    gateway: String,
    admin: String,
    provider: String,
}

impl Place {
    fn new() -> Self {
        let [gateway, admin, provider] =
            [(); 3].map(|()| format!("127.0.0.1:{}", free_port().unwrap()));
        Self {
            gateway,
            admin,
            provider,
        }
    }

    /// What the process with the gateway is told.
    fn lead(&self, store: &mut Command) {
        store.args(["--gateway", &self.gateway, "--admin", &self.admin]);
    }

    /// What the process that takes payments is told.
    fn pay(&self, store: &mut Command) {
        store.args(["--provider", &format!("http://{}", self.provider)]);
    }
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_storefront"))
}

/// The process of a part of a store whose parts `parent` has started, if it runs now.
pub(crate) fn process_of(parent: u32, part: &str) -> Option<i32> {
    let parent = format!(" {parent} ");
    let processes = std::fs::read_dir("/proc").unwrap();
    let ids = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let mut found = ids.filter(|id: &i32| {
        let read = |name| std::fs::read_to_string(format!("/proc/{id}/{name}")).unwrap_or_default();
        let stat = read("stat");
        // After the name in parentheses: the state, and the parent.
        let is_child = stat.rsplit(')').next().is_some_and(|rest| {
            let rest = rest.get(2..).unwrap_or_default();
            rest.starts_with(&parent)
        });
        is_child && read("cmdline").contains(&format!("\0run\0{part}\0"))
    });
    found.next()
}
