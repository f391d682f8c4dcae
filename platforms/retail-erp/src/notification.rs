//! notification-service: mail to customers, and to those who fill the shops.
//!
//! A mail is sent at least once, before the transaction that notes it. Its `Message-ID` is the id of the event that it
//! tells of, so that a second copy, sent after a crash, can be told from a second mail. A mail server that is away is
//! tried again as events are; then the mail is a dead letter, to be replayed when the server is back.

mod contact;
mod mailer;
mod tell;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Migration, Service};

pub use contact::Contact;

/// The service's name.
pub const NAME: &str = "notification-service";

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_mails",
    sql: include_str!("notification/0001_mails.sql"),
}];

/// The `[service.notification-service]` section.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The mail server, such as `smtp://localhost:25`; without one, mails are files.
    pub smtp: Option<String>,
    /// Where mails are put that no server takes.
    pub folder: PathBuf,
    /// Whom mails are from.
    pub from: String,
    /// Who fills the shops, and is told of low stock and of devices that went away.
    pub keeper: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            smtp: None,
            folder: PathBuf::from("data/mail"),
            from: "Retail ERP <shops@retail.example>".to_owned(),
            keeper: "keeper@retail.example".to_owned(),
        }
    }
}

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .config::<Config>()
        .migrations(MIGRATIONS)
        .on_start(mailer::check)
        .get("/api/notifications/contact", contact::find)
        .put("/api/notifications/contact", contact::save)
        .on(tell::order_created)
        .on(tell::order_cancelled)
        .on(tell::low_stock)
        .on(tell::device_status_updated)
}
