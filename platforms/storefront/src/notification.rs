//! notification-service: tells customers by mail.
//!
//! A mail is sent at least once. Its `Message-ID` is the id of the event that it tells of, so that a
//! second copy, sent after a crash, can be told from a second mail.

mod mailer;
mod sync;
mod tables;
mod templates;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Migration, Service};

use crate::events::NotificationSent;

use mailer::Mailer;

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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            smtp: None,
            folder: PathBuf::from("data/mail"),
            from: "Storefront <orders@storefront.example>".to_owned(),
        }
    }
}

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .config::<Config>()
        .migrations(MIGRATIONS)
        .state(Mailer::default())
        .publishes::<NotificationSent>()
        .on(sync::user_registered)
        .on(sync::user_updated)
        .on(sync::order_created)
        .on(sync::order_confirmed)
        .on(sync::order_failed)
}
