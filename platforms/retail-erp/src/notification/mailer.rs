//! Handing mails over: to a server, or to a folder.

use std::time::{Duration, SystemTime};

use lettre::message::Mailbox;
use lettre::transport::smtp::AsyncSmtpTransport;
use lettre::{AsyncTransport as _, Message, Tokio1Executor};
use trunkline::{Cx, Error, Result, Timestamp};

use super::Config;

/// How long the mail server may take for one step.
const STEP: Duration = Duration::from_secs(5);

/// A mail, ready to go.
#[derive(Debug)]
pub(super) struct Mail<'a> {
    pub(super) event_id: &'a str,
    pub(super) to: &'a str,
    pub(super) subject: &'a str,
    pub(super) body: String,
}

/// A sender or a server that can't be used is told at the start, and not with the first mail.
pub(super) async fn check(cx: Cx) -> Result<()> {
    let config = cx.config::<Config>()?;
    mailbox("from", &config.from)?;
    mailbox("keeper", &config.keeper)?;
    config
        .smtp
        .as_deref()
        .map_or(Ok(()), |url| server(url).map(drop))
}

/// Hands a mail over; when it returns, somebody else has it for good.
pub(super) async fn send(config: &Config, mail: Mail<'_>, now: Timestamp) -> Result<()> {
    let from = mailbox("from", &config.from)?;
    let id = plain(mail.event_id);
    let message = Message::builder()
        .message_id(Some(format!("<{id}@{}>", from.email.domain())))
        .from(from)
        .to(mailbox("to", mail.to)?)
        .date(SystemTime::from(now))
        .subject(mail.subject)
        .body(mail.body)
        .map_err(|error| Error::internal("a mail can't be written").with_source(error))?;
    match &config.smtp {
        Some(url) => match server(url)?.send(message).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => {
                let text = "the mail server refused the mail for good";
                Err(Error::invalid("mail_refused", text).with_source(error))
            }
            Err(error) => Err(not_sent(error)),
        },
        None => put(config, &id, message.formatted())
            .await
            .map_err(not_sent),
    }
}

/// Puts a mail into the folder, whole or not at all. A second copy takes the place of the first.
async fn put(config: &Config, id: &str, message: Vec<u8>) -> std::io::Result<()> {
    tokio::fs::create_dir_all(&config.folder).await?;
    let part = config.folder.join(format!("{id}.part"));
    tokio::fs::write(&part, message).await?;
    tokio::fs::File::open(&part).await?.sync_all().await?;
    tokio::fs::rename(part, config.folder.join(format!("{id}.eml"))).await
}

fn not_sent(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unavailable("mail_not_sent", "nobody took the mail").with_source(error)
}

/// A relay nearby, spoken to in the clear.
fn server(url: &str) -> Result<AsyncSmtpTransport<Tokio1Executor>> {
    let wrong = || {
        Error::invalid(
            "smtp_invalid",
            "expected `smtp` to be like smtp://localhost:25",
        )
    };
    let uri: axum::http::Uri = url.parse().map_err(|_| wrong().with("smtp", url))?;
    let (Some("smtp"), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(wrong().with("smtp", url));
    };
    let server = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host);
    Ok(server
        .port(uri.port_u16().unwrap_or(25))
        .timeout(Some(STEP))
        .build())
}

fn mailbox(field: &'static str, address: &str) -> Result<Mailbox> {
    address
        .parse()
        .map_err(|error: lettre::address::AddressError| {
            let text = format!("expected `{field}` to be like Shop <shop@example.com>");
            Error::invalid("address_invalid", text)
                .with("found", address)
                .with_source(error)
        })
}

/// An event's id as a file's name, or as part of a header: it may come from anywhere.
fn plain(event_id: &str) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    event_id.chars().filter(fits).take(100).collect()
}
