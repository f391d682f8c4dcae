//! Handing mails over: to a server, or to a folder.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use axum::http::Uri;
use axum::http::uri::InvalidUri;
use lettre::message::Mailbox;
use lettre::transport::smtp::AsyncSmtpTransport;
use lettre::{AsyncTransport as _, Message, Tokio1Executor};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::OnceCell;
use trunkline::{Error, Result, Timestamp};

use super::Config;
use super::templates::Text;

/// Hands mails over, as the configuration says; it looks there when it has the first mail.
#[derive(Debug, Default)]
pub(super) struct Mailer {
    server: OnceCell<AsyncSmtpTransport<Tokio1Executor>>,
}

/// A mail, ready to go.
#[derive(Debug, Clone)]
pub(super) struct Mail<'a> {
    pub(super) event_id: &'a str,
    pub(super) name: &'a str,
    pub(super) email: &'a str,
    pub(super) text: &'a Text,
}

impl Mailer {
    /// Hands a mail over; when it returns, somebody else has it for good.
    ///
    /// # Errors
    /// `Unavailable`: nobody took it; try again.
    pub(super) async fn send(&self, config: &Config, mail: Mail<'_>, now: Timestamp) -> Result<()> {
        let message = message(&config.from, &mail, now)?;
        match &config.smtp {
            None => put(&config.folder, mail.event_id, &message.formatted()).await,
            Some(url) => {
                let server = self
                    .server
                    .get_or_try_init(|| async { connect(url) })
                    .await?;
                let sent = server.send(message).await.map_err(|error| {
                    Error::unavailable("mail_not_sent", "the mail server did not take the mail")
                        .with_source(error)
                })?;
                tracing::debug!(code = %sent.code(), "the mail server took a mail");
                Ok(())
            }
        }
    }
}

/// The `Message-ID` of the mail that tells of an event.
pub(super) fn message_id(event_id: &str) -> String {
    format!("<{event_id}@storefront.example>")
}

/// A relay nearby, spoken to in the clear.
fn connect(url: &str) -> Result<AsyncSmtpTransport<Tokio1Executor>> {
    let wrong = || {
        Error::invalid(
            "smtp_invalid",
            "expected smtp to be like smtp://localhost:25",
        )
    };
    let url: Uri = url
        .parse()
        .map_err(|error: InvalidUri| wrong().with_source(error))?;
    match (url.scheme_str(), url.host()) {
        (Some("smtp"), Some(host)) => {
            let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host);
            Ok(transport.port(url.port_u16().unwrap_or(25)).build())
        }
        _ => Err(wrong().with("smtp", url)),
    }
}

fn message(from: &str, mail: &Mail<'_>, now: Timestamp) -> Result<Message> {
    let unusable = |error: lettre::address::AddressError| {
        Error::invalid(
            "address_invalid",
            "an address is not one that mail can be sent to",
        )
        .with_source(error)
    };
    let to = Mailbox::new(
        Some(mail.name.to_owned()),
        mail.email.parse().map_err(unusable)?,
    );
    Message::builder()
        .from(from.parse().map_err(unusable)?)
        .to(to)
        .date(SystemTime::from(now))
        .message_id(Some(message_id(mail.event_id)))
        .subject(mail.text.subject.clone())
        .body(mail.text.body.clone())
        .map_err(|error| Error::internal("a mail can't be written").with_source(error))
}

/// Puts a mail into the folder, whole or not at all. A second copy takes the place of the first.
async fn put(folder: &Path, event_id: &str, message: &[u8]) -> Result<()> {
    let path = folder.join(format!("{}.eml", file_name(event_id)));
    let written = async {
        tokio::fs::create_dir_all(folder).await?;
        let part = PathBuf::from(format!("{}.part", path.display()));
        let mut file = tokio::fs::File::create(&part).await?;
        file.write_all(message).await?;
        file.sync_all().await?;
        tokio::fs::rename(&part, &path).await
    };
    written.await.map_err(|error| {
        Error::unavailable("mail_not_sent", "the mail can't be put into the folder")
            .with("file", path.display())
            .with_source(error)
    })
}

/// An event's id as a file's name: it may come from anywhere.
fn file_name(event_id: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    event_id.chars().map(safe).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::super::templates;
    use super::*;

    #[tokio::test]
    async fn a_mail_without_a_server_is_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            folder: folder.path().join("mail"),
            ..Config::default()
        };
        let text = templates::welcome("Ann");
        let mail = Mail {
            event_id: "../e-1",
            name: "Ann",
            email: "ann@example.com",
            text: &text,
        };
        for _ in 0..2 {
            Mailer::default()
                .send(&config, mail.clone(), Timestamp::UNIX_EPOCH)
                .await
                .unwrap();
        }
        let files: Vec<_> = std::fs::read_dir(&config.folder)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].file_name().to_str(), Some("___e-1.eml"));
        let content = std::fs::read_to_string(files[0].path()).unwrap();
        assert!(
            content.contains("Message-ID: <../e-1@storefront.example>"),
            "{content}"
        );
        assert!(content.contains("To: Ann <ann@example.com>"), "{content}");
        assert!(
            content.contains("Subject: Welcome to the store"),
            "{content}"
        );
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_worth_another_try() {
        let config = Config {
            smtp: Some("smtp://127.0.0.1:1".to_owned()),
            ..Config::default()
        };
        let text = templates::welcome("Ann");
        let mail = Mail {
            event_id: "e",
            name: "Ann",
            email: "ann@example.com",
            text: &text,
        };
        let error = Mailer::default()
            .send(&config, mail, Timestamp::UNIX_EPOCH)
            .await
            .unwrap_err();
        assert_eq!(error.code(), "mail_not_sent");
        assert_eq!(error.retry(), trunkline::Retry::Transient);
    }
}
