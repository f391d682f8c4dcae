//! NATS JetStream over its own protocol: pipelined publishes with confirmations; pulled in batches,
//! each event acknowledged.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::{Outcome, Server, Setup};
use crate::flow::Flow;

/// Starts a server (`nats-server` in the path, or what `NATS_SERVER` names) with its default sync
/// interval, or with `always`, and runs against it.
pub fn run(setup: &Setup) -> Outcome {
    let program = std::env::var("NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
    let sync = if setup.synced {
        ", sync_interval: always"
    } else {
        ""
    };
    let store = setup.dir.join("store");
    let path = setup.dir.join("nats.conf");
    let settings = format!("jetstream {{ store_dir: \"{}\"{sync} }}\n", store.display());
    std::fs::write(&path, settings)?;
    let server = Server::start(|port| {
        let mut command = Command::new(program);
        command
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-c"])
            .arg(&path);
        command
    })?;
    drive(setup, &server)
}

struct Message {
    subject: String,
    reply: String,
    body: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    from: BufReader<TcpStream>,
}

impl Client {
    fn connect(port: u16, inbox: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let mut from = BufReader::with_capacity(1 << 18, stream.try_clone()?);
        from.read_line(&mut String::new())?;
        let mut client = Self { stream, from };
        let hello =
            r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}"#;
        client
            .stream
            .write_all(format!("{hello}\r\nSUB {inbox}.> 1\r\n").as_bytes())?;
        Ok(client)
    }

    fn request(&mut self, subject: &str, inbox: &str, body: &str) -> std::io::Result<Message> {
        let mut command = Vec::new();
        put(
            &mut command,
            subject,
            &format!("{inbox}.api"),
            body.as_bytes(),
        );
        self.stream.write_all(&command)?;
        let answer = self.next()?;
        if answer.body.windows(7).any(|part| part == b"\"error\"") {
            return Err(std::io::Error::other(
                String::from_utf8_lossy(&answer.body).into_owned(),
            ));
        }
        Ok(answer)
    }

    fn next(&mut self) -> std::io::Result<Message> {
        loop {
            let mut line = String::new();
            if self.from.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let bytes = |text: &str| text.parse::<usize>().unwrap_or(0);
            let (subject, reply, length) = match words.as_slice() {
                ["PING"] => {
                    self.stream.write_all(b"PONG\r\n")?;
                    continue;
                }
                ["MSG", subject, _, length] => (*subject, "", bytes(length)),
                ["MSG", subject, _, reply, length] => (*subject, *reply, bytes(length)),
                ["HMSG", subject, _, _, length] => (*subject, "", bytes(length)),
                ["HMSG", subject, _, reply, _, length] => (*subject, *reply, bytes(length)),
                ["-ERR", ..] => return Err(std::io::Error::other(line)),
                _ => continue,
            };
            let (subject, reply) = (subject.to_owned(), reply.to_owned());
            let mut body = vec![0; length + 2];
            self.from.read_exact(&mut body)?;
            body.truncate(length);
            return Ok(Message {
                subject,
                reply,
                body,
            });
        }
    }
}

fn put(into: &mut Vec<u8>, subject: &str, reply: &str, body: &[u8]) {
    into.extend_from_slice(format!("PUB {subject} {reply} {}\r\n", body.len()).as_bytes());
    into.extend_from_slice(body);
    into.extend_from_slice(b"\r\n");
}

fn drive(setup: &Setup, server: &Server) -> Outcome {
    let mut client = Client::connect(server.port, "_IN.p")?;
    let stream = r#"{"name":"S","subjects":["ev"],"storage":"file","num_replicas":1}"#;
    client.request("$JS.API.STREAM.CREATE.S", "_IN.p", stream)?;
    let consumer = r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit","max_ack_pending":10000}}"#;
    client.request("$JS.API.CONSUMER.DURABLE.CREATE.S.C", "_IN.p", consumer)?;
    let flow = Arc::new(Flow::new(setup.window));
    let publisher = {
        let (flow, batch) = (flow.clone(), setup.batch);
        let mut stream = client.stream.try_clone()?;
        std::thread::spawn(move || {
            let mut command = Vec::new();
            while let Some(count) = flow.permits(batch) {
                command.clear();
                for _ in 0..count {
                    let (number, body) = flow.next();
                    put(&mut command, "ev", &format!("_IN.p.{number}"), &body);
                }
                stream.write_all(&command).expect("nats takes it");
            }
        })
    };
    let confirmer = {
        let flow = flow.clone();
        client
            .stream
            .set_read_timeout(Some(Duration::from_millis(200)))?;
        std::thread::spawn(move || {
            while !(flow.is_over() && flow.is_drained()) {
                let Ok(message) = client.next() else { continue };
                let number = message
                    .subject
                    .rsplit('.')
                    .next()
                    .and_then(|n| n.parse().ok());
                let number: u64 = number.expect("a confirmation has a number");
                flow.confirmed(number..number + 1);
            }
        })
    };
    let consumer = {
        let (flow, port) = (flow.clone(), server.port);
        std::thread::spawn(move || consume(&flow, port).expect("nats delivers"))
    };
    let result = flow.clock(setup.warm_up, setup.measured, &[server.pid()]);
    for thread in [publisher, confirmer, consumer] {
        thread.join().map_err(|_| "a thread of the run panicked")?;
    }
    Ok(result)
}

fn consume(flow: &Flow, port: u16) -> std::io::Result<()> {
    const PULL: usize = 1000;
    let mut client = Client::connect(port, "_IN.c")?;
    let mut due = 0;
    let mut command = Vec::new();
    while !(flow.is_over() && flow.is_drained()) {
        // The next pull is asked for before the last one has ended.
        if due < PULL / 2 {
            let pull = format!("{{\"batch\":{PULL},\"expires\":1000000000}}");
            put(
                &mut command,
                "$JS.API.CONSUMER.MSG.NEXT.S.C",
                "_IN.c.m",
                pull.as_bytes(),
            );
            due += PULL;
        }
        if !command.is_empty() {
            client.stream.write_all(&command)?;
            command.clear();
        }
        let mut numbers = 0..0;
        loop {
            let message = client.next()?;
            if message.reply.is_empty() {
                // A pull ended with less than it asked for.
                due = 0;
                break;
            }
            due = due.saturating_sub(1);
            let number = flow.received(&message.body);
            numbers = if numbers.is_empty() {
                number..number + 1
            } else {
                numbers.start..number + 1
            };
            command.extend_from_slice(format!("PUB {} 4\r\n+ACK\r\n", message.reply).as_bytes());
            if !client.from.buffer().starts_with(b"MSG") || command.len() > 1 << 16 {
                break;
            }
        }
        if !command.is_empty() {
            client.stream.write_all(&command)?;
            command.clear();
        }
        flow.acked(numbers);
    }
    Ok(())
}
