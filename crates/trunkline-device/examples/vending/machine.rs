//! A vending machine: it speaks MQTT 3.1.1, as most devices do.

use std::collections::BTreeMap;
use std::time::Duration;

use rumqttc::{AsyncClient, Event, LastWill, MqttOptions, Packet, QoS};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use trunkline::device::DeviceConfig;
use trunkline::{Env, Result};

/// What a machine holds when it is full.
const STOCK: u32 = 40;
/// So many of its messages may wait.
const WAITING_MAX: usize = 16;

/// Runs `count` machines until the process ends; their reports are spread over the time between two.
pub(crate) async fn run(url: &str, count: u64, every: Duration) -> Result<()> {
    let broker = DeviceConfig::from_url(url, "machines")?;
    let mut machines = JoinSet::new();
    for number in 0..count {
        let mut options = MqttOptions::new(format!("m{number}"), &broker.host, broker.port);
        options
            .set_keep_alive(Duration::from_secs(60))
            .set_inflight(8);
        if let Some((user, password)) = &broker.credentials {
            options.set_credentials(user, password);
        }
        let name = options.client_id();
        let will = LastWill::new(topic(&name, "presence"), "offline", QoS::AtLeastOnce, true);
        options.set_last_will(will);
        let share = u32::try_from(number).unwrap_or(0) % u32::try_from(count).unwrap_or(1).max(1);
        let first = every.mul_f64(f64::from(share) / f64::from(u32::try_from(count).unwrap_or(1)));
        machines.spawn(Machine::new(name).live(options, Instant::now() + first, every));
    }
    while machines.join_next().await.is_some() {}
    Ok(())
}

fn topic(name: &str, what: &str) -> String {
    format!("vending/{name}/{what}")
}

struct Machine {
    name: String,
    stock: BTreeMap<&'static str, u32>,
    cents: u64,
    sales: u64,
    boot: String,
    env: Env,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Command {
    command_id: String,
    command: String,
    #[serde(default)]
    data: Value,
}

impl Machine {
    fn new(name: String) -> Self {
        let env = Env::system();
        Self {
            name,
            stock: ["cola", "water", "chips"]
                .map(|product| (product, STOCK))
                .into(),
            cents: 250,
            sales: 0,
            boot: env.id().to_string(),
            env,
        }
    }

    async fn live(mut self, options: MqttOptions, first: Instant, every: Duration) {
        let (client, mut events) = AsyncClient::new(options, WAITING_MAX);
        let mut reports = interval_at(first, every);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = reports.tick() => self.turn(&client),
                event = events.poll() => match event {
                    Ok(event) => self.hear(&client, event),
                    Err(_) => sleep(Duration::from_secs(1)).await,
                }
            }
        }
    }

    /// One thing that happens on the connection.
    fn hear(&mut self, client: &AsyncClient, event: Event) {
        match event {
            Event::Incoming(Packet::ConnAck(_)) => {
                let presence = topic(&self.name, "presence");
                drop(client.try_subscribe(topic(&self.name, "commands"), QoS::AtLeastOnce));
                drop(client.try_publish(presence, QoS::AtLeastOnce, true, "online"));
            }
            Event::Incoming(Packet::Publish(publish)) => {
                if let Ok(command) = serde_json::from_slice(&publish.payload) {
                    let answer = self.obey(&command);
                    say(client, topic(&self.name, "replies"), &answer);
                }
            }
            _ => {}
        }
    }

    fn obey(&mut self, command: &Command) -> Value {
        let cents = command.data.get("cents").and_then(Value::as_u64);
        match (command.command.as_str(), cents) {
            ("set_price", Some(cents)) => self.cents = cents,
            ("restock", _) => self.stock.values_mut().for_each(|left| *left = STOCK),
            _ => {
                let reason = "no such command";
                return json!({ "commandId": command.command_id, "status": "refused", "reason": reason });
            }
        }
        json!({ "commandId": command.command_id, "status": "acknowledged" })
    }

    /// Somebody may have bought something; then it says how it is.
    fn turn(&mut self, client: &AsyncClient) {
        let bought = self.stock.values_mut().find(|left| **left > 0);
        if self.env.random_f64() < 0.1
            && let Some(left) = bought
        {
            *left -= 1;
            self.sales += 1;
            let sale = json!({
                "saleId": format!("{}-{}", self.boot, self.sales), "machineId": self.name, "cents": self.cents,
            });
            say(client, topic(&self.name, "sales"), &sale);
        }
        let status = if self.stock.values().any(|left| *left > 0) {
            "selling"
        } else {
            "empty"
        };
        let report = json!({ "machineId": self.name, "status": status, "stock": self.stock });
        say(client, topic(&self.name, "status"), &report);
    }
}

fn say(client: &AsyncClient, topic: String, what: &Value) {
    // What finds no room is lost with a machine that has been cut off for long.
    drop(client.try_publish(topic, QoS::AtLeastOnce, false, what.to_string()));
}
