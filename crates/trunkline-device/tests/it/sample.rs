//! The platform that the tests run: a gateway of vending machines, whose handlers write down what they see.

use std::path::Path as Folder;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use trunkline::device::{
    CommandSettled, DeviceCommand, DeviceTopic, Outcome, PresenceChanged, Refused, mosquitto,
};
use trunkline::{
    Client, CommandState, Config, Context, Cx, Devices, Env, Error, Event, Json, Migration, Path,
    Platform, Result, Running, Service, sql,
};
use trunkline_testkit::mosquitto::Server;

/// Long enough for anything that ends by itself, on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// A machine says how it is. It has no id: saying it twice changes nothing.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "vending.status", version = "1.0", topic = "vending-events", key = machine_id)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub machine_id: String,
    pub status: String,
}

/// A machine sold something.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "vending.sale", version = "1.0", topic = "vending-events", key = machine_id)]
#[serde(rename_all = "camelCase")]
pub struct Sale {
    pub sale_id: String,
    pub machine_id: String,
    pub product_id: String,
    pub quantity: u32,
}

const TABLES: &[Migration] = &[Migration {
    name: "0001_tests",
    sql: "CREATE TABLE sale (place BIGINT NOT NULL, sale_id TEXT PRIMARY KEY, machine TEXT NOT NULL, times BIGINT NOT NULL);
          CREATE TABLE seen (what TEXT NOT NULL, machine TEXT NOT NULL, word TEXT NOT NULL)",
}];

async fn on_status(cx: Cx, event: Event<Status>) -> Result<()> {
    note(&cx, "status", &event.data.machine_id, &event.data.status).await
}

async fn on_sale(cx: Cx, event: Event<Sale>) -> Result<()> {
    if event.data.product_id == "poison" {
        return Err(Error::invalid(
            "product_poisoned",
            "this product can't be sold",
        ));
    }
    let mut tx = cx.tx().await?;
    sql("INSERT INTO sale (place, sale_id, machine, times) SELECT COUNT(*), $1, $2, 1 FROM sale WHERE true \
         ON CONFLICT (sale_id) DO UPDATE SET times = sale.times + 1")
        .bind(&event.data.sale_id)
        .bind(&event.data.machine_id)
        .run(tx.conn())
        .await?;
    tx.publish(event.data).await
}

async fn on_presence(cx: Cx, change: PresenceChanged) -> Result<()> {
    let word = format!("{} {:?}", change.online, change.cause);
    note(&cx, "presence", &change.device, &word).await?;
    cx.publish(change).await
}

async fn on_settled(cx: Cx, settled: CommandSettled) -> Result<()> {
    let word = format!("{} {:?}", settled.command, settled.outcome);
    note(&cx, "settled", &settled.device, &word).await?;
    cx.publish(settled).await
}

async fn note(cx: &Cx, what: &str, machine: &str, word: &str) -> Result<()> {
    let mut tx = cx.tx().await?;
    let insert = sql("INSERT INTO seen (what, machine, word) VALUES ($1, $2, $3)");
    let insert = insert.bind(what).bind(machine).bind(word);
    insert.run(tx.conn()).await.map(drop)
}

async fn sales(cx: Cx) -> Result<Json<Vec<(String, i64)>>> {
    let mut reader = cx.read().await?;
    let all = sql("SELECT sale_id, times FROM sale ORDER BY place");
    all.all(reader.conn()).await.map(Json)
}

async fn seen(cx: Cx, Path((what, machine)): Path<(String, String)>) -> Result<Json<Vec<String>>> {
    let mut reader = cx.read().await?;
    let all = sql("SELECT word FROM seen WHERE what = $1 AND machine = $2");
    let rows = all.bind(what).bind(machine).all::<(String,)>(reader.conn());
    Ok(Json(rows.await?.into_iter().map(|(word,)| word).collect()))
}

async fn send(
    cx: Cx,
    Path(machine): Path<String>,
    Json(millis): Json<u64>,
) -> Result<Json<String>> {
    let command = DeviceCommand::new("set_price", serde_json::json!({ "cents": 250 }))?;
    let command = command.expires_in(Duration::from_millis(millis));
    let id = cx.command(&machine, command).await?;
    Ok(Json(id.to_string()))
}

async fn ended(cx: Cx, Path(id): Path<String>) -> Result<Json<Option<Outcome>>> {
    let state: Option<CommandState> = cx.command_outcome(&id, Duration::from_secs(4)).await?;
    Ok(Json(state.and_then(|state| state.outcome)))
}

pub type Told = Arc<Mutex<Vec<Refused>>>;

pub fn devices(told: &Told) -> Devices {
    let told = told.clone();
    let sales = DeviceTopic::new("vending/{machine_id}/sales")
        .id("/saleId")
        .names_device("/machineId");
    Devices::new()
        .report_batch(
            DeviceTopic::new("vending/{machine_id}/status").names_device("/machineId"),
            64,
            on_status,
        )
        .report_batch(sales, 64, on_sale)
        .presence("vending/{machine_id}/presence", on_presence)
        .commands(
            "vending/{machine_id}/commands",
            "vending/{machine_id}/replies",
            on_settled,
        )
        .on_refusal(Arc::new(move |refused| told.lock().push(refused.clone())))
}

pub fn platform(told: &Told) -> Platform {
    let service = Service::new("iot-gateway")
        .migrations(TABLES)
        .publishes::<Sale>()
        .publishes::<PresenceChanged>()
        .publishes::<CommandSettled>()
        .get("/sales", sales)
        .get("/seen/{what}/{machine}", seen)
        .post("/machines/{machine}/commands", send)
        .get("/commands/{id}", ended)
        .devices(devices(told));
    Platform::new("retail").service(service)
}

pub fn config(folder: &Folder, broker: &str) -> Config {
    let mut config = Config::default();
    config.data = folder.to_owned();
    config.admin.address = ([127, 0, 0, 1], 0).into();
    config.devices.broker = broker.to_owned();
    config.devices.user = Some("gateway".to_owned());
    config.devices.password = Some("gate-secret".to_owned());
    config.devices.offline_after_ms = 300;
    config.devices.answer_within_ms = 500;
    config.devices.rate_per_second = 1_000;
    config.devices.burst_max = 10_000;
    config
}

/// A broker that knows the gateway and these machines, each with its name behind `secret-` as its password.
pub fn broker(machines: &[&str]) -> Server {
    broker_with(machines, "max_packet_size 262144\n")
}

/// The same with other settings for the size of packets.
pub fn broker_with(machines: &[&str], more: &str) -> Server {
    let user = |name: &str, password: String| mosquitto::Credential {
        user: name.to_owned(),
        password,
    };
    let mut users = vec![user("gateway", "gate-secret".to_owned())];
    users.extend(
        machines
            .iter()
            .map(|name| user(name, format!("secret-{name}"))),
    );
    let passwords = mosquitto::password_file(&users, &Env::system()).unwrap();
    let declared = devices(&Told::default());
    let acl = mosquitto::acl_file(declared.declared(), "gateway").unwrap();
    let settings = "allow_anonymous false\nuse_username_as_clientid true\npassword_file {folder}/passwords\nacl_file {folder}/acl\n";
    Server::start_with(
        &format!("{settings}{more}"),
        &[("passwords", &passwords), ("acl", &acl)],
    )
}

/// The platform, running.
pub struct Sample {
    pub running: Running,
    pub told: Told,
}

impl Sample {
    pub async fn start(folder: &Folder, broker: &Server) -> Self {
        let told = Told::default();
        let running = platform(&told)
            .start(config(folder, &broker.url()))
            .await
            .unwrap();
        Self { running, told }
    }

    /// The same, once it has reached its broker.
    pub async fn start_linked(folder: &Folder, broker: &Server) -> Self {
        let sample = Self::start(folder, broker).await;
        let well = async || sample.client().get("/health").send_empty().await.is_ok();
        trunkline_testkit::eventually(SOON, well).await;
        sample
    }

    pub fn client(&self) -> Client {
        let channel = self.running.network().channel("test", "iot-gateway");
        Client::new(channel, Context::root(&Env::system()))
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        self.client().get(path).send().await.unwrap()
    }

    pub async fn sales(&self) -> Vec<(String, i64)> {
        self.get("/sales").await
    }

    pub async fn seen(&self, what: &str, machine: &str) -> Vec<String> {
        self.get(&format!("/seen/{what}/{machine}")).await
    }

    pub async fn send(&self, machine: &str, millis: u64) -> Result<String> {
        let path = format!("/machines/{machine}/commands");
        self.client().post(path).json(&millis).send().await
    }
}
