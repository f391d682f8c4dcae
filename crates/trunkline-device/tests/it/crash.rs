//! The broker and the gateway are killed while machines sell.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use trunkline_testkit::mosquitto::Server;
use trunkline_testkit::{Child, eventually, eventually_or, python};

use crate::machine::Machine;
use crate::sample::{SOON, Sample, broker, config, platform};

const SALES: usize = 120;
/// Tells the child where its data is, and where its broker.
const CHILD: [&str; 2] = ["TRUNKLINE_DEVICE_FOLDER", "TRUNKLINE_DEVICE_BROKER"];
const NAME: &str = "crash::nothing_is_lost_or_done_twice_when_the_gateway_is_killed";

/// Sells in three rounds, with `between` each two of them, until all is acknowledged to the machines.
async fn sell(
    machines: &mut [Machine],
    mut between: impl AsyncFnMut(&[Machine]),
) -> BTreeSet<String> {
    let mut sold = BTreeSet::new();
    for round in 0..3 {
        for machine in machines.iter_mut() {
            for sale in 0..SALES / 3 {
                let sale = format!("{}-{round}-{sale}", machine.name);
                machine.sell(&sale);
                sold.insert(sale);
            }
        }
        between(machines).await;
    }
    for machine in machines.iter() {
        // The birth is one more each time it connects.
        let all = async || machine.said("acked").len() > SALES;
        eventually(SOON, all).await;
    }
    sold
}

async fn all_once(sample: &Sample, sold: &BTreeSet<String>) {
    let kept = Mutex::new(BTreeSet::<String>::new());
    let all = async || {
        let sales = sample.sales().await;
        *kept.lock().unwrap() = sales.into_iter().map(|(id, _)| id).collect();
        kept.lock().unwrap().len() >= sold.len()
    };
    let missing = || {
        let kept = kept.lock().unwrap();
        format!("missing: {:?}", sold.difference(&kept).collect::<Vec<_>>())
    };
    eventually_or(SOON, all, missing).await;
    let sales = sample.sales().await;
    let twice: Vec<_> = sales.iter().filter(|(_, times)| *times != 1).collect();
    assert!(twice.is_empty(), "done twice: {twice:?}");
    let kept: BTreeSet<String> = sales.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(&kept, sold, "lost, or from nowhere");
    for machine in ["m1", "m2"] {
        let of = |it: &&(String, i64)| it.0.starts_with(machine);
        let places: Vec<_> = sales.iter().filter(of).map(|(id, _)| id.clone()).collect();
        assert_eq!(places.len(), SALES);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_when_the_broker_is_killed() {
    let broker = Arc::new(broker(&["m1", "m2"]));
    let folder = tempfile::tempdir().unwrap();
    let sample = Sample::start(folder.path(), &broker).await;
    let mut machines =
        [("m1", 3), ("m2", 5)].map(|(name, v)| Machine::start(&broker, name, v, "ack"));
    for machine in &machines {
        machine.connected().await;
    }
    let sold = sell(&mut machines, async |machines| {
        // mosquitto acknowledges what it has handed to the gateway, and writes it down a moment later. Killed in between, it
        // forgets it; so the gateway is given the moment to read.
        broker.pause();
        let acked = |machine: &Machine| {
            let connected = machine.said("connected");
            let births = connected.iter().filter(|it| it["ok"] == true).count();
            machine.said("acked").len().saturating_sub(births)
        };
        let read = async || sample.sales().await.len() >= machines.iter().map(acked).sum();
        eventually(SOON, read).await;
        broker.kill();
        broker.restart();
    })
    .await;
    all_once(&sample, &sold).await;
    sample.running.shutdown().await;
}

async fn be_the_gateway(folder: &Path, broker: &str) {
    let _running = platform(&Default::default())
        .start(config(folder, broker))
        .await
        .unwrap();
    std::future::pending::<()>().await;
}

/// How many sales the gateway has committed, by Python's own SQLite.
fn handled(folder: &Path) -> usize {
    const COUNT: &str = "import sqlite3, sys\n\
        db = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)\n\
        print(db.execute('SELECT COUNT(*) FROM sale').fetchone()[0])";
    let mut command = python::program(COUNT);
    let output = command.arg(folder.join("iot-gateway.db")).output().unwrap();
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap_or(0)
}

fn gateway(folder: &Path, broker: &Server) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", NAME, "--nocapture"]);
    command.env(CHILD[0], folder).env(CHILD[1], broker.url());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Child::spawn(&mut command).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_done_twice_when_the_gateway_is_killed() {
    if let [Ok(folder), Ok(broker)] = CHILD.map(std::env::var) {
        return be_the_gateway(Path::new(&folder), &broker).await;
    }
    let broker = broker(&["m1", "m2"]);
    let folder = tempfile::tempdir().unwrap();
    // Once, so that the broker knows for whom to keep what comes.
    Sample::start_linked(folder.path(), &broker)
        .await
        .running
        .shutdown()
        .await;
    let mut machines =
        [("m1", 3), ("m2", 5)].map(|(name, v)| Machine::start(&broker, name, v, "ack"));
    let mut child = Some(gateway(folder.path(), &broker));
    let sold = sell(&mut machines, async |_| {
        // In the middle: it has handled something, and not all.
        let more = handled(folder.path());
        eventually(SOON, async || handled(folder.path()) > more).await;
        drop(child.take());
        child = Some(gateway(folder.path(), &broker));
    })
    .await;
    drop(child.take());
    let sample = Sample::start(folder.path(), &broker).await;
    all_once(&sample, &sold).await;
    sample.running.shutdown().await;
}
