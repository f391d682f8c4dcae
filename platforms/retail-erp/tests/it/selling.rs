//! Machines that sell by MQTT, each with its own password at mosquitto: the simulator as a program that is killed, and paho.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use retail_erp::demo;
use retail_erp::machine::{Broker, Filled, Plan, Seller, Setup};
use serde_json::{Value, json};
use tempfile::TempDir;
use trunkline_testkit::http::Caller;
use trunkline_testkit::mosquitto::Server;
use trunkline_testkit::{Child, eventually, python};

use crate::erp::TestErp;

const BAR: &str = "prod_456";
const WATER: &str = "prod_790";
const FILLED: u64 = 60;
/// Sales with refunds, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(90);

/// An ERP, a broker that knows the machine by what the ERP gave out, and the machine's own folder.
struct Scene {
    broker: Server,
    erp: TestErp,
    folder: TempDir,
    password: String,
}

impl Scene {
    async fn start(more: &str) -> Self {
        let settings = "password_file {folder}/passwords\nacl_file {folder}/acl\n";
        let settings = format!("use_username_as_clientid true\nallow_anonymous false\n{settings}");
        let broker = Server::start_with(&settings, &[("passwords", ""), ("acl", "")]);
        broker.kill();
        let config = format!(
            "[service.iot-gateway]\nmqtt = true\n[devices]\nbroker = \"{}\"\nuser = \"gateway\"\n\
             password = \"gate-secret\"\nanswer_within_ms = 500\nrate_per_second = 1000\n\
             burst_max = 10000\n{more}",
            broker.url()
        );
        let erp = TestErp::start_with(&config).await;
        let path = format!("/api/devices/{}/credentials", demo::MACHINE);
        let given = erp.staff().post(&path, json!({})).await.expect(200);
        assert_eq!(given["user"], demo::MACHINE);
        let files = erp.staff().get("/api/devices/broker").await.expect(200);
        for name in ["passwords", "acl"] {
            let text = files[name].as_str().unwrap();
            std::fs::write(broker.folder().join(name), text).unwrap();
        }
        broker.restart();
        // Before that nobody keeps what a machine says.
        let linked = async || erp.admin.get("/health").await.status == 200;
        eventually(SOON, linked).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("credentials"), given.to_string()).unwrap();
        let password = given["password"].as_str().unwrap().to_owned();
        Self {
            broker,
            erp,
            folder,
            password,
        }
    }

    /// The simulator, as a program of its own.
    fn machine(&self, args: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retail-erp"));
        command.args(["vm", "--broker", &self.broker.url(), "--pause-ms", "0"]);
        command.args(["--slot", &format!("A1={BAR}:{FILLED}")]);
        command.args(["--slot", &format!("A2={WATER}:{FILLED}")]);
        command.arg("--state").arg(self.folder.path());
        command
            .arg("--credentials")
            .arg(self.folder.path().join("credentials"));
        command.args(args).stdout(Stdio::null());
        Child::spawn(&mut command).unwrap()
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// The stage of the sale that was written about last.
    fn last_stage(&self) -> String {
        let books = self.file("sales.jsonl");
        let last = books
            .lines()
            .last()
            .and_then(|line| serde_json::from_str::<Value>(line).ok());
        last.map_or_else(String::new, |entry| entry["stage"].to_string())
    }

    fn fallen(&self, slot: &str) -> u64 {
        let tray = self.file("tray.log");
        tray.lines().filter(|line| *line == slot).count() as u64
    }

    /// All charges that stand, in cents, and how many were given back.
    async fn money(&self) -> (Vec<u64>, usize) {
        let sandbox = Caller::new(self.erp.erp.sandbox_url().unwrap());
        let ledger = sandbox.get("/v1/charges").await.expect(200);
        let of = |status: &str| {
            let charges = ledger.as_array().unwrap().iter();
            let charges = charges.filter(|charge| charge["status"] == status);
            charges
                .map(|charge| (charge["amount"].as_f64().unwrap() * 100.0).round() as u64)
                .collect::<Vec<_>>()
        };
        (of("succeeded"), of("refunded").len())
    }

    /// Waits until money and stock are what fell.
    async fn adds_up(&self) {
        eventually(SOON, async || {
            let (bars, waters) = (self.fallen("A1"), self.fallen("A2"));
            let (charges, _) = self.money().await;
            let shop = demo::VENDING_SHOP;
            charges.iter().sum::<u64>() == bars * 150 + waters * 199
                && charges.len() as u64 == bars + waters
                && self.erp.stock(shop, BAR).await == (FILLED - bars, 0)
                && self.erp.stock(shop, WATER).await == (FILLED - waters, 0)
        })
        .await;
    }
}

async fn runs_to_its_end(mut machine: Child) {
    let ended = tokio::task::spawn_blocking(move || machine.process().wait().unwrap());
    assert!(ended.await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fell_is_what_is_paid_and_gone_also_when_the_machine_is_killed_while_it_sells() {
    let scene = Scene::start("").await;
    let mut in_a_sale = 0;
    for stage in ["asked", "begun", "begun", "ended", "begun", "asked"] {
        let args = ["--sales", "1000", "--jam-every", "3", "--vend-ms", "40"];
        let mut machine = scene.machine(&args);
        let fallen = scene.fallen("A1") + scene.fallen("A2");
        eventually(SOON, async || {
            scene.fallen("A1") + scene.fallen("A2") > fallen + 2
        })
        .await;
        eventually(SOON, async || scene.last_stage().contains(stage)).await;
        machine.kill().unwrap();
        in_a_sale += usize::from(!scene.last_stage().contains("ended"));
    }
    assert!(in_a_sale > 0, "it was killed in no sale");
    let last = scene.machine(&["--sales", "6", "--jam-every", "3", "--vend-ms", "1"]);
    runs_to_its_end(last).await;
    scene.adds_up().await;
    let vended = scene
        .file("sales.jsonl")
        .matches("{\"ended\":true}")
        .count() as u64;
    assert_eq!(vended, scene.fallen("A1") + scene.fallen("A2"), "its books");
    let (_, refunds) = scene.money().await;
    assert!(refunds >= 6 * 3 / 3, "jams are paid back: {refunds}");
    let letters = scene.erp.admin.get("/api/v1/dead-letters").await;
    assert_eq!(letters.expect(200)["dead_letters"], json!([]));
    scene.erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_expires_is_paid_back_and_a_piece_that_fell_all_the_same_is_counted() {
    let scene = Scene::start("[service.vm-service]\nvend_within_ms = 3000\nvend_grace_ms = 200\n");
    let scene = scene.await;
    let shop = demo::VENDING_SHOP;
    // The piece does not fall before the machine dies.
    let turning = ["--sales", "1", "--vend-ms", "60000"];
    let mut machine = scene.machine(&turning);
    eventually(SOON, async || scene.last_stage().contains("begun")).await;
    assert_eq!(scene.money().await, (vec![150], 0));
    machine.kill().unwrap();
    eventually(SOON, async || scene.money().await == (vec![], 1)).await;
    scene.erp.has_stock(shop, BAR, (FILLED, 0)).await;
    // The next one falls when nobody sees it any more.
    let mut machine = scene.machine(&turning);
    let again = async || {
        scene.file("sales.jsonl").contains("ended") && scene.last_stage().contains("begun")
    };
    eventually(SOON, again).await;
    machine.kill().unwrap();
    eventually(SOON, async || scene.money().await == (vec![], 2)).await;
    std::fs::write(scene.folder.path().join("tray.log"), "A1\n").unwrap();
    runs_to_its_end(scene.machine(&["--sales", "0"])).await;
    scene.erp.has_stock(shop, BAR, (FILLED - 1, 0)).await;
    assert_eq!(scene.money().await, (vec![], 2), "nobody pays for it");
    let late = "SELECT COUNT(*) FROM sales WHERE fell_late = 1";
    assert_eq!(scene.erp.ask("vm-service", late), "1");
    scene.erp.stop().await;
}

/// A machine of paho's. What it does with the commands is told by the words, one a sale; it ends when all have ended.
const PAHO: &str = r#"
import json, sys, threading
import paho.mqtt.client as mqtt
port, me, word, slots, manners = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4].split(","), sys.argv[5].split(",")
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=me, protocol=mqtt.MQTTv311, clean_session=False)
client.username_pw_set(me, word)
topic = lambda name: f"devices/{me}/{name}"
client.will_set(topic("presence"), "offline", qos=1, retain=True)
seen, ended = {}, threading.Semaphore(0)
def say(name, **it):
    client.publish(topic(name), json.dumps(it), qos=1)
def connected(client, userdata, flags, reason, properties):
    client.subscribe(topic("commands"), qos=1)
    client.publish(topic("presence"), "online", qos=1, retain=True)
def message(client, userdata, message):
    it = json.loads(message.payload)
    sale = it["data"]["saleId"]
    manner = manners[int(sale.split("-")[-1])]
    again = it["commandId"] in seen
    seen[it["commandId"]] = it["command"]
    print(json.dumps({"sale": sale, "again": again, **it}), flush=True)
    if manner == "silent" and it["command"] == "vend":
        if not again:
            ended.release()
        return
    if manner == "lost" and not again:
        return  # it vends, and its answer is lost
    fell = it["command"] == "refuse" or manner in ("vends", "lost")
    say("replies", commandId=it["commandId"], status="acknowledged" if fell else "refused", reason="jammed")
    if it["command"] == "vend" and manner != "mute":
        say("sales", saleId=sale, vended=fell)
    ended.release()
client.on_connect, client.on_message = connected, message
client.connect("127.0.0.1", port, keepalive=10)
client.loop_start()
for number, slot in enumerate(slots):
    say("purchases", saleId=f"paho-{number}", slot=slot, cardToken="tok_declined" if manners[number] == "poor" else "tok_visa")
    if not ended.acquire(timeout=60):
        sys.exit(3)
client.disconnect()
client.loop_stop()
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_not_ours_sells_too() {
    let scene = Scene::start("[service.vm-service]\nvend_within_ms = 6000\nvend_grace_ms = 200\n");
    let scene = scene.await;
    let shop = demo::VENDING_SHOP;
    let manners = ["vends", "jams", "lost", "poor", "vends", "silent"];
    let slots = ["A1", "A2", "A1", "A1", "Z9", "A2"];
    let mut command = python::program(PAHO);
    command.args([&scene.broker.port().to_string(), demo::MACHINE]);
    command.args([&scene.password, &slots.join(","), &manners.join(",")]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let commands: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // Two fell, one jammed, one was not paid, one slot is none, and one never answers.
    eventually(SOON, async || scene.money().await == (vec![150, 150], 2)).await;
    scene.erp.has_stock(shop, BAR, (10, 0)).await;
    scene.erp.has_stock(shop, WATER, (10, 0)).await;
    let of = |sale: &str| -> Vec<&Value> {
        let commands = commands.iter();
        commands.filter(|it| it["sale"] == sale).collect()
    };
    assert!(of("paho-2").len() >= 2, "asked again, by the same id");
    assert_eq!(of("paho-2")[0]["commandId"], of("paho-2")[1]["commandId"]);
    assert_eq!(of("paho-3")[0]["data"]["reason"], "payment_failed");
    assert_eq!(of("paho-4")[0]["data"]["reason"], "slot_unknown");
    let letters = scene.erp.admin.get("/api/v1/dead-letters").await;
    assert_eq!(letters.expect(200)["dead_letters"], json!([]));
    scene.erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_the_staffs_to_give_and_the_last_ones_count() {
    let scene = Scene::start("").await;
    let path = format!("/api/devices/{}/credentials", demo::MACHINE);
    let (customer, staff) = (scene.erp.customer(), scene.erp.staff());
    let other = customer.post(&path, json!({})).await;
    other.refused(403, "role_missing");
    let other = customer.get("/api/devices/broker").await;
    other.refused(403, "role_missing");
    let ghost = staff.post("/api/devices/ghost/credentials", json!({}));
    ghost.await.refused(404, "device_unknown");
    staff.post(&path, json!({})).await.expect(200);
    let files = staff.get("/api/devices/broker").await.expect(200);
    let passwords = files["passwords"].as_str().unwrap();
    assert!(!passwords.contains("gate-secret") && !passwords.contains(&scene.password));
    let file: PathBuf = scene.broker.folder().join("passwords");
    std::fs::write(file, passwords).unwrap();
    scene.broker.kill();
    scene.broker.restart();
    let mut machine = scene.machine(&["--sales", "1"]);
    let ended = tokio::task::spawn_blocking(move || machine.process().wait().unwrap());
    assert!(
        !ended.await.unwrap().success(),
        "the old password has ended"
    );
    scene.erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_clock_is_wildly_wrong_sells_all_the_same() {
    const TEN_YEARS: i64 = 315_360_000;
    let scene = Scene::start("").await;
    for clock_off_seconds in [TEN_YEARS, -TEN_YEARS] {
        let slots = [("A1", BAR), ("A2", WATER)].map(|(slot, product_id)| Filled {
            slot: slot.to_owned(),
            product_id: product_id.to_owned(),
            pieces: 60,
        });
        let machine = Seller::open(Setup {
            machine_id: demo::MACHINE.to_owned(),
            broker: Broker {
                url: scene.broker.url(),
                password: Some(scene.password.clone()),
            },
            slots: slots.into(),
            folder: scene.folder.path().to_owned(),
            vend_takes: Duration::ZERO,
            clock_off_seconds,
        });
        let plan = Plan {
            sales: 2,
            pause: Duration::ZERO,
            jam_every: 0,
            card_token: "tok_visa".to_owned(),
        };
        let done = machine.unwrap().run(&plan, |_| {}).await.unwrap();
        assert_eq!(done.vended, 2, "{clock_off_seconds}");
    }
    assert_eq!(scene.fallen("A1"), 2);
    scene.adds_up().await;
    scene.erp.stop().await;
}
