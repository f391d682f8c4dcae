//! What devices show their MQTT broker, and the files by which it knows them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::device::mosquitto::{self, Credential};
use trunkline::{Cx, Json, Path, Result, sql};

use super::mqtt;
use crate::{STAFF, limits, shop};

/// The largest packet that the broker is to take, in bytes.
const PACKET_BYTES_MAX: u32 = 256 << 10;

/// The gateway's own name at the broker, and its password if it has one.
#[derive(Debug, Clone)]
pub(super) struct Gateway(pub(super) Credential);

impl Gateway {
    pub(super) fn of(config: &trunkline::Config) -> Self {
        let devices = &config.devices;
        let user = devices.user.clone();
        Self(Credential {
            user: user.unwrap_or_else(|| "gateway".to_owned()),
            password: devices.password.clone().unwrap_or_default(),
        })
    }
}

/// What a device shows its broker. It is given out once; asked again there is another one, and this one ends.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceCredentials {
    /// The device's name, which is its session's too.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// The files of mosquitto: it reads the first two again on `SIGHUP`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerFiles {
    /// Its `password_file`.
    pub passwords: String,
    /// Its `acl_file`.
    pub acl: String,
    /// Lines for its configuration, after its listener.
    pub settings: String,
}

pub(super) async fn give(cx: Cx, Path(device_id): Path<String>) -> Result<Json<DeviceCredentials>> {
    cx.require_role(STAFF)?;
    limits::id("deviceId", &device_id)?;
    shop::find_device(&cx, &device_id).await?;
    let credential = Credential::generate(&device_id, cx.env());
    let line = credential.line(cx.env())?;
    let mut tx = cx.tx().await?;
    let text = "INSERT INTO device_credentials (device_id, line) VALUES ($1, $2) \
                ON CONFLICT (device_id) DO UPDATE SET line = excluded.line";
    sql(text).bind(&device_id).bind(line).run(tx.conn()).await?;
    cx.audit("device.credentials", &device_id)?;
    Ok(Json(DeviceCredentials {
        user: credential.user,
        password: credential.password,
    }))
}

pub(super) async fn files(cx: Cx) -> Result<Json<BrokerFiles>> {
    cx.require_role(STAFF)?;
    let gateway = cx.state::<Gateway>()?;
    let mut reader = cx.read().await?;
    let text = "SELECT line FROM device_credentials ORDER BY device_id";
    let lines = sql(text).all::<(String,)>(reader.conn()).await?;
    // Whoever has the gateway's name has the gateway's password.
    let mut passwords = gateway.0.line(cx.env())? + "\n";
    let own = format!("{}:", gateway.0.user);
    for (line,) in lines.iter().filter(|(line,)| !line.starts_with(&own)) {
        passwords.push_str(line);
        passwords.push('\n');
    }
    Ok(Json(BrokerFiles {
        passwords,
        acl: mosquitto::acl_file(mqtt::devices().declared(), &gateway.0.user)?,
        settings: mosquitto::settings(PACKET_BYTES_MAX),
    }))
}
