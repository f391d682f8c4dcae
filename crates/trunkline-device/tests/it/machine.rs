//! Vending machines that aren't ours: Python's paho-mqtt, and mosquitto's own clients.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use trunkline_testkit::mosquitto::Server;
use trunkline_testkit::{Child, eventually, python};

use crate::sample::SOON;

const MACHINE: &str = r#"
import json, sys, threading
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
port, me, version, mode, word = sys.argv[1:6]
five = version == "5"
lock = threading.Lock()
seen = set()
def say(what, **more):
    with lock:
        print(json.dumps({"what": what, **more}), flush=True)
kwargs = {"protocol": mqtt.MQTTv5} if five else {"protocol": mqtt.MQTTv311, "clean_session": False}
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=me, **kwargs)
client.username_pw_set(me, word)
topic = lambda name: f"vending/{me}/{name}"
client.will_set(topic("presence"), "offline", qos=1, retain=True)
def connected(client, userdata, flags, reason, properties):
    say("connected", ok=not reason.is_failure, reason=str(reason))
    if not reason.is_failure:
        client.subscribe(topic("commands"), qos=1)
        client.publish(topic("presence"), "online", qos=1, retain=True)
def message(client, userdata, message):
    command = json.loads(message.payload)
    say("command", **command)
    if mode == "silent":
        return
    if mode == "lossy" and command["commandId"] not in seen:
        seen.add(command["commandId"])
        say("acted", commandId=command["commandId"])
        return  # it does it, and its answer is lost
    answer = {"status": "acknowledged" if mode in ("ack", "lossy") else "refused", "reason": "jam"}
    if five:
        properties = Properties(PacketTypes.PUBLISH)
        properties.CorrelationData = message.properties.CorrelationData
        to, more = message.properties.ResponseTopic, {"properties": properties}
    else:
        answer["commandId"] = command["commandId"]
        to, more = topic("replies"), {}
    for _ in range(3 if mode == "lossy" else 1):
        client.publish(to, json.dumps(answer), qos=1, **more)
def published(client, userdata, mid, reason, properties):
    say("acked", mid=mid)
client.on_connect, client.on_message, client.on_publish = connected, message, published
client.reconnect_delay_set(1, 1)
client.max_inflight_messages_set(20)
if five:
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 600
    client.connect("127.0.0.1", int(port), keepalive=10, clean_start=False, properties=properties)
else:
    client.connect("127.0.0.1", int(port), keepalive=10)
client.loop_start()
for line in sys.stdin:
    it = json.loads(line)
    payload = bytes.fromhex(it["hex"]) if "hex" in it else it["payload"]
    client.publish(it["topic"], payload, qos=it.get("qos", 1), retain=it.get("retain", False))
client.disconnect()
"#;

/// A machine of paho's; killed when dropped.
pub struct Machine {
    pub name: String,
    child: Child,
    said: Arc<Mutex<Vec<Value>>>,
}

impl Machine {
    /// Starts one that speaks MQTT `version` (3 or 5) and answers commands by `mode` (`ack`, `refuse`, `silent`, or `lossy`: it does what it is told, and its
    /// first answer is lost).
    pub fn start(broker: &Server, name: &str, version: u8, mode: &str) -> Self {
        Self::with_password(broker, name, (version, mode), &format!("secret-{name}"))
    }

    pub fn with_password(broker: &Server, name: &str, how: (u8, &str), password: &str) -> Self {
        let mut command = python::program(MACHINE);
        let (port, version) = (broker.port().to_string(), how.0.to_string());
        command.args([&port, name, &version, how.1, password]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Child::spawn(&mut command).unwrap();
        let said = Arc::<Mutex<Vec<Value>>>::default();
        let out = child.process().stdout.take().unwrap();
        let into = said.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                into.lock().extend(serde_json::from_str(&line).ok());
            }
        });
        Self {
            name: name.to_owned(),
            child,
            said,
        }
    }

    /// What it said of one kind.
    pub fn said(&self, what: &str) -> Vec<Value> {
        let said = self.said.lock();
        said.iter()
            .filter(|it| it["what"] == what)
            .cloned()
            .collect()
    }

    pub async fn connected(&self) {
        eventually(SOON, async || {
            self.said("connected").iter().any(|it| it["ok"] == true)
        })
        .await;
    }

    fn tell(&mut self, what: &Value) {
        let input = self.child.process().stdin.as_mut().unwrap();
        writeln!(input, "{what}").unwrap();
    }

    pub fn publish(&mut self, topic: &str, payload: &str) {
        self.tell(&json!({ "topic": topic, "payload": payload }));
    }

    pub fn publish_hex(&mut self, topic: &str, hex: &str) {
        self.tell(&json!({ "topic": topic, "hex": hex }));
    }

    pub fn sell(&mut self, sale: &str) {
        self.sell_of(sale, "cola");
    }

    pub fn sell_of(&mut self, sale: &str, product: &str) {
        let topic = format!("vending/{}/sales", self.name);
        let sale =
            json!({ "saleId": sale, "machineId": self.name, "productId": product, "quantity": 1 });
        self.publish(&topic, &sale.to_string());
    }

    pub fn report(&mut self, status: &str) {
        let topic = format!("vending/{}/status", self.name);
        let report = json!({ "machineId": self.name, "status": status });
        self.publish(&topic, &report.to_string());
    }

    /// Pulls its plug.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
    }
}

/// `mosquitto_pub` of a machine; says whether the broker took it.
pub fn mosquitto_pub(broker: &Server, name: &str, args: &[&str]) -> bool {
    let mut command = Command::new("mosquitto_pub");
    command.args([
        "-h",
        "127.0.0.1",
        "-p",
        &broker.port().to_string(),
        "-q",
        "1",
    ]);
    command
        .args(["-u", name, "-P", &format!("secret-{name}")])
        .args(args);
    command.stderr(Stdio::null()).status().unwrap().success()
}
