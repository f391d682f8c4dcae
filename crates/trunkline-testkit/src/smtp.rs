//! A mail server for tests, over real TCP: it keeps what it takes, and refuses whom it is told to.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The longest line that it reads; RFC 5321 allows 1,000.
const LINE_BYTES_MAX: usize = 4_096;

/// A mail that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The sender's address, as the envelope has it.
    pub from: String,
    /// The recipients' addresses, as the envelope has them.
    pub to: Vec<String>,
    /// Header and text, as they came, with `\r\n` at the end of each line.
    pub data: String,
}

/// A mail server on loopback. It stops when dropped, and what it took is gone with it.
///
/// # Source
/// RFC 5321, without extensions.
#[derive(Debug)]
pub struct Smtp {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    _server: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Shared {
    mails: Vec<Mail>,
    refused: BTreeSet<String>,
}

impl Smtp {
    /// Starts a server on this address; port 0 is a free one.
    ///
    /// # Errors
    /// When it can't listen there.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::<Mutex<Shared>>::default();
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _server: server,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL that mailers are configured with.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// What it took so far.
    pub fn mails(&self) -> Vec<Mail> {
        self.shared.lock().mails.clone()
    }

    /// Refuses mail for this address from now on, for good: 550.
    pub fn refuse(&self, recipient: &str) {
        self.shared.lock().refused.insert(recipient.to_owned());
    }
}

async fn serve(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    let mut sessions = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        sessions.spawn(async move {
            let (read, write) = stream.into_split();
            // A client that goes away ends its session and nothing else.
            drop(session(BufReader::new(read), write, &shared).await);
        });
        while sessions.try_join_next().is_some() {}
    }
}

async fn session(
    mut read: BufReader<impl AsyncRead + Unpin>,
    mut write: impl AsyncWrite + Unpin,
    shared: &Mutex<Shared>,
) -> io::Result<()> {
    let mut mail = empty();
    write.write_all(b"220 testkit\r\n").await?;
    loop {
        let line = line(&mut read).await?;
        let command = line.trim_end();
        let verb = command.split([' ', ':']).next().unwrap_or_default();
        let answer = match verb.to_ascii_uppercase().as_str() {
            "EHLO" | "HELO" | "NOOP" => "250 testkit".to_owned(),
            "RSET" => {
                mail = empty();
                "250 forgotten".to_owned()
            }
            "MAIL" => {
                mail.from = address(command);
                "250 go on".to_owned()
            }
            "RCPT" => {
                let recipient = address(command);
                if shared.lock().refused.contains(&recipient) {
                    format!("550 5.1.1 {recipient} has no mailbox here")
                } else {
                    mail.to.push(recipient);
                    "250 go on".to_owned()
                }
            }
            "DATA" if mail.to.is_empty() => "503 nobody to send it to".to_owned(),
            "DATA" => {
                write.write_all(b"354 end with a dot\r\n").await?;
                mail.data = text(&mut read).await?;
                let whole = std::mem::replace(&mut mail, empty());
                shared.lock().mails.push(whole);
                "250 taken".to_owned()
            }
            "QUIT" => return write.write_all(b"221 goodbye\r\n").await,
            _ => "502 not known here".to_owned(),
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}

fn empty() -> Mail {
    Mail {
        from: String::new(),
        to: Vec::new(),
        data: String::new(),
    }
}

/// Lines up to the one that is a dot; a line that begins with a dot had another put before it.
async fn text(read: &mut BufReader<impl AsyncRead + Unpin>) -> io::Result<String> {
    let mut text = String::new();
    loop {
        let line = line(read).await?;
        if line == ".\r\n" {
            return Ok(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}

async fn line(read: &mut BufReader<impl AsyncRead + Unpin>) -> io::Result<String> {
    let mut line = String::new();
    if read.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if line.len() > LINE_BYTES_MAX {
        return Err(io::Error::other("the line is too long"));
    }
    Ok(line)
}

/// What stands between the angle brackets.
fn address(command: &str) -> String {
    let inside = command.split(['<', '>']).nth(1);
    inside.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_mail_is_taken_as_it_is_and_a_refused_one_is_not() {
        let server = Smtp::start(([127, 0, 0, 1], 0).into()).await.unwrap();
        server.refuse("bob@example.com");
        let mut client = TcpStream::connect(server.address()).await.unwrap();
        let lines = "EHLO me\r\nMAIL FROM:<shop@example.com>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\n\
                     RCPT TO:<ann@example.com>\r\nDATA\r\nSubject: a\r\n\r\n..b\r\n.\r\nQUIT\r\n";
        client.write_all(lines.as_bytes()).await.unwrap();
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.unwrap();
        let codes: Vec<_> = answers.lines().map(|line| &line[..3]).collect();
        let expected = [
            "220", "250", "250", "550", "503", "250", "354", "250", "221",
        ];
        assert_eq!(codes, expected);
        let mail = Mail {
            from: "shop@example.com".to_owned(),
            to: vec!["ann@example.com".to_owned()],
            data: "Subject: a\r\n\r\n.b\r\n".to_owned(),
        };
        assert_eq!(server.mails(), [mail]);
    }
}
