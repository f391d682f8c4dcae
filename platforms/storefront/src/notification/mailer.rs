//! Handing mails over: to a server, or to a folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use axum::http::Uri;
use axum::http::uri::InvalidUri;
use lettre::address::AddressError;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::AsyncSmtpTransport;
use lettre::transport::smtp::Error as SmtpError;
use lettre::{AsyncTransport as _, Message, Tokio1Executor};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::OnceCell;
use trunkline::{Error, Result, Timestamp};

use super::Config;
use super::tables::Contact;
use super::templates::Text;

/// How long the mail server may take for one step; a handler has 30 s.
const STEP: Duration = Duration::from_secs(5);

/// Hands mails over, as the configuration says.
#[derive(Debug, Default)]
pub(super) struct Mailer {
    server: OnceCell<AsyncSmtpTransport<Tokio1Executor>>,
}

/// A mail, ready to go.
#[derive(Debug, Clone)]
pub(super) struct Mail<'a> {
    pub(super) event_id: &'a str,
    /// Whom to write to; a mail to nobody is only kept.
    pub(super) to: Option<&'a Contact>,
    pub(super) text: &'a Text,
}

impl Mailer {
    /// Checks what the configuration says. Whether the server is there is seen when there is a mail.
    ///
    /// # Errors
    /// `InvalidInput`, naming what is expected.
    pub(super) async fn check(&self, config: &Config) -> Result<()> {
        sender(config)?;
        if let Some(url) = &config.smtp {
            self.server(url).await?;
        }
        Ok(())
    }

    /// Hands a mail over and gives its `Message-ID`; when it returns, somebody else has it for good.
    ///
    /// # Errors
    /// `Unavailable`: nobody took it; try again. `InvalidInput` with code `mail_refused`: the server
    /// will never take it.
    pub(super) async fn send(
        &self,
        config: &Config,
        mail: Mail<'_>,
        now: Timestamp,
    ) -> Result<String> {
        let from = sender(config)?;
        let message_id = format!("<{}@{}>", plain(mail.event_id), from.email.domain());
        let message = Message::builder()
            .from(from)
            .to(recipient(mail.to)?)
            .date(SystemTime::from(now))
            .message_id(Some(message_id.clone()))
            .subject(mail.text.subject.clone())
            .header(ContentType::TEXT_PLAIN)
            // The end of the last line is the transport's to write.
            .body(mail.text.body.trim_end().to_owned())
            .map_err(|error| Error::internal("a mail can't be written").with_source(error))?;
        match (&config.smtp, mail.to) {
            (Some(url), Some(to)) => {
                let sent = self.server(url).await?.send(message).await;
                sent.map_err(|error| not_sent(error).with("recipient", &to.email))?;
            }
            _ => {
                let mut file = message.formatted();
                file.extend(b"\r\n");
                put(&config.folder, mail.event_id, &file).await?;
            }
        }
        Ok(message_id)
    }

    async fn server(&self, url: &str) -> Result<&AsyncSmtpTransport<Tokio1Executor>> {
        self.server.get_or_try_init(|| async { connect(url) }).await
    }
}

/// A relay nearby, spoken to in the clear.
fn connect(url: &str) -> Result<AsyncSmtpTransport<Tokio1Executor>> {
    let wrong = || {
        let text = "expected `smtp` to be like smtp://localhost:25";
        Error::invalid("smtp_invalid", text).with("smtp", url)
    };
    let url: Uri = url
        .parse()
        .map_err(|error: InvalidUri| wrong().with_source(error))?;
    let (Some("smtp"), Some(host)) = (url.scheme_str(), url.host()) else {
        return Err(wrong());
    };
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(url.port_u16().unwrap_or(25))
        .timeout(Some(STEP));
    Ok(transport.build())
}

fn sender(config: &Config) -> Result<Mailbox> {
    config.from.parse().map_err(|error: AddressError| {
        let text = "expected `from` to be like Shop <shop@example.com>";
        Error::invalid("from_invalid", text)
            .with("from", &config.from)
            .with_source(error)
    })
}

fn recipient(to: Option<&Contact>) -> Result<Mailbox> {
    let Some(Contact { name, email }) = to else {
        let nobody = lettre::Address::new("nobody", "customers.invalid");
        let nobody = nobody.map_err(|error| Error::internal("an address").with_source(error))?;
        return Ok(Mailbox::new(None, nobody));
    };
    let address = email.parse().map_err(|error: AddressError| {
        let text = "the customer's address is not one that mail can be sent to";
        Error::invalid("address_invalid", text)
            .with("recipient", email)
            .with_source(error)
    })?;
    Ok(Mailbox::new(Some(name.clone()), address))
}

/// A server that says 5xx has said no for good; anything else is worth another try.
fn not_sent(error: SmtpError) -> Error {
    let made = if error.is_permanent() {
        Error::invalid("mail_refused", "the mail server refused the mail for good")
    } else {
        Error::unavailable("mail_not_sent", "the mail server did not take the mail")
    };
    made.with("answer", &error).with_source(error)
}

/// Puts a mail into the folder, whole or not at all. A second copy takes the place of the first.
async fn put(folder: &Path, event_id: &str, message: &[u8]) -> Result<()> {
    let path = folder.join(format!("{}.eml", plain(event_id)));
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

/// An event's id as a file's name, or as part of a header: it may come from anywhere.
fn plain(event_id: &str) -> String {
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

    fn ann() -> Contact {
        Contact {
            name: "Ann Ångström".to_owned(),
            email: "ann@example.com".to_owned(),
        }
    }

    async fn sent(config: &Config, to: Option<&Contact>) -> Result<String> {
        let text = templates::welcome("Ann");
        let mail = Mail {
            event_id: "../e-1",
            to,
            text: &text,
        };
        let now = Timestamp::UNIX_EPOCH;
        Mailer::default().send(config, mail, now).await
    }

    #[tokio::test]
    async fn a_mail_without_a_server_is_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            folder: folder.path().join("mail"),
            ..Config::default()
        };
        for _ in 0..2 {
            let id = sent(&config, Some(&ann())).await.unwrap();
            assert_eq!(id, "<___e-1@storefront.example>");
        }
        let files: Vec<_> = std::fs::read_dir(&config.folder)
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        assert_eq!(files, [config.folder.join("___e-1.eml")]);
        let content = std::fs::read_to_string(&files[0]).unwrap();
        assert_eq!(
            content.replace("\r\n", "\n"),
            "From: Storefront <orders@storefront.example>\n\
             To: =?utf-8?b?QW5uIMOFbmdzdHLDtm0=?= <ann@example.com>\n\
             Date: Thu, 01 Jan 1970 00:00:00 +0000\n\
             Message-ID: <___e-1@storefront.example>\n\
             Subject: Welcome to the store\n\
             Content-Type: text/plain; charset=utf-8\n\
             Content-Transfer-Encoding: 7bit\n\n\
             Hello Ann,\n\nyour account is open. Enjoy looking around.\n\nYour storefront\n"
        );
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_worth_another_try() {
        let config = Config {
            smtp: Some("smtp://127.0.0.1:1".to_owned()),
            ..Config::default()
        };
        let error = sent(&config, Some(&ann())).await.unwrap_err();
        assert_eq!(error.code(), "mail_not_sent");
        assert_eq!(error.retry(), trunkline::Retry::Transient);
    }

    #[tokio::test]
    async fn a_configuration_that_can_not_be_used_is_refused() {
        let check = async |from: &str, smtp: &str| {
            let config = Config {
                from: from.to_owned(),
                smtp: Some(smtp.to_owned()),
                ..Config::default()
            };
            let checked = Mailer::default().check(&config).await;
            checked.map_err(|error| error.code().to_owned())
        };
        let shop = "Shop <shop@example.com>";
        assert_eq!(check(shop, "smtp://mail.example.com").await, Ok(()));
        for url in ["localhost:25", "smtps://localhost", "smtp://", "a b"] {
            let code = check(shop, url).await.unwrap_err();
            assert_eq!(code, "smtp_invalid", "{url}");
        }
        let code = check("Shop", "smtp://localhost").await.unwrap_err();
        assert_eq!(code, "from_invalid");
    }
}
