//! How a connection begins.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trunkline_core::Result;

use super::codec::{self, Fields, Value, put_long, put_short, put_table, take_frame};
use super::{io, method};
use crate::config::RabbitConfig;
use crate::error;

/// No frame before tuning is larger.
const FRAME_MAX: usize = 1 << 17;
/// The channels of one connection, if the server allows as many.
const CHANNELS_MAX: u16 = 2047;

/// What both sides agreed on.
#[derive(Debug)]
pub(super) struct Tuned {
    pub(super) channel_max: u16,
    pub(super) frame_max: usize,
    pub(super) heartbeat: Duration,
}

/// Connects, logs in and opens the virtual host; what was read beyond that comes along.
pub(super) async fn open(config: &RabbitConfig) -> Result<(TcpStream, Tuned, BytesMut)> {
    let address = (config.host.as_str(), config.port);
    let mut stream = TcpStream::connect(address).await.map_err(error::lost)?;
    stream.set_nodelay(true).map_err(error::lost)?;
    let mut buffer = BytesMut::with_capacity(FRAME_MAX);
    let hello = b"AMQP\x00\x00\x09\x01";
    stream.write_all(hello).await.map_err(error::lost)?;
    expect(&mut stream, &mut buffer, method::CONNECTION_START).await?;
    let mut out = BytesMut::new();
    codec::method(&mut out, 0, method::CONNECTION_START_OK, |out| {
        start_ok(out, config);
    });
    stream.write_all(&out).await.map_err(error::lost)?;
    let mut tune = expect(&mut stream, &mut buffer, method::CONNECTION_TUNE).await?;
    let tuned = tune_to(&mut tune, config).ok_or_else(|| error::odd("connection.tune"))?;
    out.clear();
    codec::method(&mut out, 0, method::CONNECTION_TUNE_OK, |out| {
        out.put_u16(tuned.channel_max);
        out.put_u32(u32::try_from(tuned.frame_max).unwrap_or(0));
        out.put_u16(u16::try_from(tuned.heartbeat.as_secs()).unwrap_or(u16::MAX));
    });
    codec::method(&mut out, 0, method::CONNECTION_OPEN, |out| {
        put_short(out, &config.vhost);
        out.put_u16(0);
    });
    stream.write_all(&out).await.map_err(error::lost)?;
    expect(&mut stream, &mut buffer, method::CONNECTION_OPEN_OK).await?;
    Ok((stream, tuned, buffer))
}

fn start_ok(out: &mut BytesMut, config: &RabbitConfig) {
    let capabilities = Value::Table(vec![
        ("authentication_failure_close", Value::Flag(true)),
        ("connection.blocked", Value::Flag(true)),
        ("consumer_cancel_notify", Value::Flag(true)),
        ("publisher_confirms", Value::Flag(true)),
    ]);
    let version = Value::text(env!("CARGO_PKG_VERSION"));
    let about = [
        ("product", &Value::text("Trunkline")),
        ("version", &version),
        ("platform", &Value::text("Rust")),
        ("capabilities", &capabilities),
    ];
    put_table(out, about);
    put_short(out, "PLAIN");
    put_long(
        out,
        format!("\0{}\0{}", config.user, config.password).as_bytes(),
    );
    put_short(out, "en_US");
}

fn tune_to(theirs: &mut Fields, config: &RabbitConfig) -> Option<Tuned> {
    // Zero means without a bound.
    let least = |theirs: u64, ours: u64| if theirs == 0 { ours } else { theirs.min(ours) };
    let channel_max = least(theirs.short_number()?.into(), CHANNELS_MAX.into());
    let frame_max = least(theirs.number()?.into(), FRAME_MAX as u64);
    let heartbeat = least(
        theirs.short_number()?.into(),
        config.heartbeat.as_secs().max(1),
    );
    Some(Tuned {
        channel_max: u16::try_from(channel_max).ok()?,
        frame_max: usize::try_from(frame_max).ok()?.max(4096),
        heartbeat: Duration::from_secs(heartbeat),
    })
}

/// Reads until the method `wanted` comes; gives its arguments.
async fn expect(stream: &mut TcpStream, buffer: &mut BytesMut, wanted: u32) -> Result<Fields> {
    loop {
        if let Some(frame) =
            take_frame(buffer, FRAME_MAX).map_err(|_| error::odd("the greeting"))?
        {
            if frame.kind != codec::FRAME_METHOD {
                continue;
            }
            let mut fields = Fields(frame.payload);
            match fields.number() {
                Some(came) if came == wanted => return Ok(fields),
                Some(method::CONNECTION_CLOSE) => return Err(io::refusal(&mut fields)),
                _ => return Err(error::odd("the greeting")),
            }
        }
        if stream.read_buf(buffer).await.map_err(error::lost)? == 0 {
            let end = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(error::lost(end));
        }
    }
}
