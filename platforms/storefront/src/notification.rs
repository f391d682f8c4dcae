//! notification-service: tells customers by mail.
//!
//! What happened is turned into a command to send a mail, and the command has a key of its own: a mail
//! that can't be sent holds up nothing else. While the mail server is away, the command is given again
//! later; a mail that the server refuses for good becomes a dead letter, to be replayed or discarded.
//!
//! A mail is sent at least once. Its `Message-ID` is the id of the event that it tells of, so that a
//! second copy, sent after a crash, can be told from a second mail.

mod mailer;
mod send;
mod sync;
mod tables;
mod templates;

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Migration, Service};

use crate::events::{NotificationSent, SendNotification};

use mailer::Mailer;

/// The service's name.
pub const NAME: &str = "notification-service";

const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "0001_mails",
        sql: include_str!("notification/0001_mails.sql"),
    },
    Migration {
        name: "0002_order_details",
        sql: include_str!("notification/0002_order_details.sql"),
    },
];

/// The longest pause before a mail is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

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
    /// How long to wait before a mail that the server did not take is tried again, in milliseconds;
    /// doubled each time, up to 5 minutes.
    pub retry_ms: u64,
    /// How often a mail is tried before it becomes a dead letter: for about eight hours.
    pub attempts_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            smtp: None,
            folder: PathBuf::from("data/mail"),
            from: "Storefront <orders@storefront.example>".to_owned(),
            retry_ms: 1_000,
            attempts_max: 100,
        }
    }
}

impl Config {
    fn pause(&self, attempt: u32) -> Duration {
        let doubled = self
            .retry_ms
            .saturating_mul(1 << attempt.saturating_sub(1).min(20));
        Duration::from_millis(doubled).min(PAUSE_MAX)
    }
}

/// The service.
pub fn service() -> Service {
    Service::new(NAME)
        .version("1.0.0")
        .config::<Config>()
        .migrations(MIGRATIONS)
        .state(Mailer::default())
        .publishes::<SendNotification>()
        .publishes::<NotificationSent>()
        .on_start(send::check)
        .on(sync::user_registered)
        .on(sync::user_updated)
        .on(sync::order_created)
        .on(sync::order_confirmed)
        .on(sync::order_failed)
        .on(send::send)
}
