//! Redis Streams over its own protocol: pipelined `XADD`; `XACK` of what was read travels with the next
//! `XREADGROUP`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::{Outcome, Server, Setup};
use crate::flow::Flow;

/// Starts a server with `appendfsync` always or everysec, and runs against it.
pub fn run(setup: &Setup) -> Outcome {
    let sync = if setup.synced { "always" } else { "everysec" };
    let server = Server::start(|port| {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", sync])
            .arg("--dir")
            .arg(&setup.dir);
        command
    })?;
    drive(setup, &server)
}

fn connect(port: u16) -> std::io::Result<(TcpStream, BufReader<TcpStream>)> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let reader = BufReader::with_capacity(1 << 18, stream.try_clone()?);
    Ok((stream, reader))
}

fn put(into: &mut Vec<u8>, words: &[&[u8]]) {
    into.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        into.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        into.extend_from_slice(word);
        into.extend_from_slice(b"\r\n");
    }
}

enum Value {
    Text(Vec<u8>),
    Number,
    List(Vec<Value>),
}

impl Value {
    fn list(&self) -> &[Self] {
        if let Self::List(all) = self { all } else { &[] }
    }

    fn text(&self) -> &[u8] {
        if let Self::Text(text) = self {
            text
        } else {
            &[]
        }
    }
}

fn read(from: &mut impl BufRead) -> std::io::Result<Value> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let (kind, rest) = line
        .trim_end()
        .split_at_checked(1)
        .ok_or(std::io::ErrorKind::InvalidData)?;
    let number = || rest.parse::<i64>().unwrap_or(-1);
    Ok(match kind {
        "+" => Value::Text(rest.into()),
        ":" => Value::Number,
        "$" | "*" if number() < 0 => Value::List(Vec::new()),
        "$" => {
            let mut text = vec![0; usize::try_from(number()).unwrap_or(0) + 2];
            from.read_exact(&mut text)?;
            text.truncate(text.len() - 2);
            Value::Text(text)
        }
        "*" => Value::List(
            (0..number())
                .map(|_| read(from))
                .collect::<Result<_, _>>()?,
        ),
        _ => return Err(std::io::Error::other(line)),
    })
}

fn drive(setup: &Setup, server: &Server) -> Outcome {
    let (mut stream, mut replies) = connect(server.port)?;
    let mut command = Vec::new();
    put(
        &mut command,
        &[b"XGROUP", b"CREATE", b"ev", b"g", b"0", b"MKSTREAM"],
    );
    stream.write_all(&command)?;
    read(&mut replies)?;
    let flow = Arc::new(Flow::new(setup.window));
    let (sent, queue) = sync_channel::<(u64, u64)>(8192);
    let publisher = {
        let (flow, batch) = (flow.clone(), setup.batch);
        std::thread::spawn(move || {
            let mut command = Vec::new();
            while let Some(count) = flow.permits(batch) {
                command.clear();
                let mut first = 0;
                for nth in 0..count {
                    let (number, body) = flow.next();
                    if nth == 0 {
                        first = number;
                    }
                    put(&mut command, &[b"XADD", b"ev", b"*", b"b", &body]);
                }
                sent.send((first, count))
                    .expect("the reader of replies is there");
                stream.write_all(&command).expect("redis takes it");
            }
        })
    };
    let confirmer = {
        let flow = flow.clone();
        std::thread::spawn(move || {
            for (first, count) in queue {
                for _ in 0..count {
                    read(&mut replies).expect("redis answers");
                }
                flow.confirmed(first..first + count);
            }
        })
    };
    let consumer = {
        let (flow, port) = (flow.clone(), server.port);
        std::thread::spawn(move || consume(&flow, port).expect("redis delivers"))
    };
    let result = flow.clock(setup.warm_up, setup.measured, &[server.pid()]);
    for thread in [publisher, confirmer, consumer] {
        thread.join().map_err(|_| "a thread of the run panicked")?;
    }
    Ok(result)
}

fn consume(flow: &Flow, port: u16) -> std::io::Result<()> {
    let (mut stream, mut replies) = connect(port)?;
    let mut ids: Vec<Vec<u8>> = Vec::new();
    let mut numbers = 0..0;
    while !(flow.is_over() && flow.is_drained()) {
        let mut command = Vec::new();
        let acks = !ids.is_empty();
        if acks {
            let mut words: Vec<&[u8]> = vec![b"XACK", b"ev", b"g"];
            words.extend(ids.iter().map(Vec::as_slice));
            put(&mut command, &words);
        }
        put(
            &mut command,
            &[
                b"XREADGROUP",
                b"GROUP",
                b"g",
                b"c",
                b"COUNT",
                b"1000",
                b"BLOCK",
                b"200",
                b"STREAMS",
                b"ev",
                b">",
            ],
        );
        stream.write_all(&command)?;
        flow.acked(numbers);
        if acks {
            read(&mut replies)?;
        }
        let reply = read(&mut replies)?;
        ids.clear();
        numbers = 0..0;
        for stream in reply.list() {
            for event in stream.list().get(1).map(Value::list).unwrap_or_default() {
                let [id, fields] = event.list() else { continue };
                ids.push(id.text().to_vec());
                let number = flow.received(fields.list()[1].text());
                numbers = if numbers.is_empty() {
                    number..number + 1
                } else {
                    numbers.start..number + 1
                };
            }
        }
    }
    Ok(())
}
