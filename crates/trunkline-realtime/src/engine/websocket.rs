//! Packets over a WebSocket.

use std::pin::{Pin, pin};
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use bytestring::ByteString;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Request, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::link::{Beat, Link, Means};
use super::packet::Packet;
use super::{Refusal, connect, plain};
use crate::client::Client;
use crate::packet::Frame;
use crate::realtime::Inner;

type Stream = WebSocketStream<TokioIo<Upgraded>>;

/// What a read takes from the system at once: most packets of clients are shorter, and an idle connection keeps it.
const READ_BYTES: usize = 512;
/// What is given to the system at once.
const WRITE_BYTES: usize = 64 * 1024;

/// What messages of a WebSocket are.
pub(super) enum Framing {
    /// Packets of Engine.IO.
    Engine,
    /// Frames of JSON, of one namespace.
    Plain(ByteString),
}

/// Takes an upgrade: of a new connection, or of one that polls.
pub(super) fn take(
    inner: &Arc<Inner>,
    link: Option<Arc<Link>>,
    mut request: Request<Body>,
) -> Result<Response, Refusal> {
    let (upgrade, accepted) = upgrade(&mut request)?;
    match link {
        Some(link) => {
            if *link.means.lock() != Means::Polling {
                return Err(Refusal::BadRequest);
            }
            inner.tasks.spawn(change(link, upgrade));
        }
        None => {
            let link = connect(inner, &request)?;
            inner.tasks.spawn(run(link, upgrade, Framing::Engine));
        }
    }
    Ok(accepted)
}

/// The connection that a request asks for, and what it is answered.
pub(super) fn upgrade(request: &mut Request<Body>) -> Result<(OnUpgrade, Response), Refusal> {
    let accept = accept_key(request.headers()).ok_or(Refusal::BadRequest)?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let headers = [
        (header::CONNECTION, "upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    let accepted = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
    Ok((upgrade.ok_or(Refusal::BadRequest)?, accepted))
}

fn accept_key(headers: &HeaderMap) -> Option<String> {
    let is = |name, wanted: &str| {
        let values = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    let fits = is(header::UPGRADE, "websocket") && is(header::SEC_WEBSOCKET_VERSION, "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| fits)?;
    Some(derive_accept_key(key.as_bytes()))
}

/// A connection that begins with this.
pub(super) async fn run(link: Arc<Link>, upgrade: OnUpgrade, framing: Framing) {
    let client = link.client.clone();
    *link.means.lock() = Means::WebSocket;
    let Ok(upgraded) = upgrade.await else {
        return client.ends("transport close");
    };
    let mut stream = stream(&client, upgraded).await;
    let is_ready = match framing {
        Framing::Engine => say(&mut stream, &client, &link.opening(&[])).await,
        Framing::Plain(_) => true,
    };
    match is_ready {
        true => lasts(&link, &mut stream, &framing).await,
        false => client.ends("transport error"),
    }
}

/// A connection that polls, and changes to this if it can.
async fn change(link: Arc<Link>, upgrade: OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut stream = stream(&link.client, upgraded).await;
    if probe(&link, &mut stream).await {
        lasts(&link, &mut stream, &Framing::Engine).await;
    }
}

async fn stream(client: &Client, upgraded: Upgraded) -> Stream {
    let limits = &client.realtime.limits;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(WRITE_BYTES)
        .max_write_buffer_size(usize::MAX)
        .max_message_size(Some(limits.payload_max))
        .max_frame_size(Some(limits.payload_max));
    let io = TokioIo::new(upgraded);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

async fn lasts(link: &Arc<Link>, stream: &mut Stream, framing: &Framing) {
    let client = &link.client;
    let why = serve(link, stream, framing).await;
    client.ends(why);
    // A client that has gone does not hear it.
    drop(timeout(client.realtime.limits.write_within, stream.close(None)).await);
}

/// Shows that it works, and then takes over from polling.
async fn probe(link: &Arc<Link>, stream: &mut Stream) -> bool {
    let client = &link.client;
    let probed = timeout(client.realtime.limits.ping_within, async {
        match next(stream, &Framing::Engine).await {
            Some(Ok(Packet::Ping(text))) => {
                *link.means.lock() = Means::Probed;
                let answered = say(stream, client, &format!("3{text}")).await;
                // The request that waits is answered with what there is, so that the client can let go of it.
                client.queue.wake();
                answered
                    && matches!(
                        next(stream, &Framing::Engine).await,
                        Some(Ok(Packet::Upgrade))
                    )
            }
            _ => false,
        }
    });
    let changes = tokio::select! {
        biased;
        () = client.closed.cancelled() => false,
        probed = probed => probed.unwrap_or(false),
    };
    let means = if changes {
        Means::WebSocket
    } else {
        Means::Polling
    };
    *link.means.lock() = means;
    changes
}

/// Sends and receives until the connection is over; why it is.
async fn serve(link: &Arc<Link>, stream: &mut Stream, framing: &Framing) -> &'static str {
    let client = &link.client;
    // Made once, and not for each packet: each has a place in a list that all connections look through.
    let mut over = pin!(over(client));
    let mut beat = pin!(link.beat());
    loop {
        tokio::select! {
            biased;
            why = &mut over => return why,
            () = client.queue.ready() => {
                if let Err(why) = flush((stream, framing), client, over.as_mut()).await {
                    return why;
                }
            }
            packet = next(stream, framing) => match packet {
                None => return "transport close",
                Some(Err(())) => return "parse error",
                Some(Ok(packet)) => {
                    if let Err(error) = link.take(packet) {
                        tracing::debug!(client = %client.id, %error, "a client that sends what it may not is disconnected");
                        return "parse error";
                    }
                }
            },
            happened = &mut beat => {
                match happened {
                    Beat::Ask => {
                        let asked = stream.send(framing.ping());
                        if let Err(why) = within(client, over.as_mut(), asked).await {
                            return why;
                        }
                    }
                    Beat::Silent => return "ping timeout",
                    Beat::Other => {}
                }
                beat.set(link.beat());
            }
        }
    }
}

/// Waits until the connection is over for a reason of its own.
async fn over(client: &Client) -> &'static str {
    tokio::select! {
        biased;
        () = client.closed.cancelled() => "transport error",
        () = client.realtime.stop.cancelled() => "server shutting down",
    }
}

/// Sends what waits, together.
async fn flush(
    (stream, framing): (&mut Stream, &Framing),
    client: &Client,
    over: Pin<&mut impl Future<Output = &'static str>>,
) -> Result<(), &'static str> {
    let frames = client.queue.take(WRITE_BYTES);
    let mut is_last = false;
    let sending = async {
        for frame in frames {
            let message;
            (message, is_last) = framing.message(&frame);
            stream.feed(message).await?;
            for attachment in &frame.attachments {
                stream.feed(Message::Binary(attachment.clone())).await?;
            }
            if is_last {
                break;
            }
        }
        stream.flush().await
    };
    within(client, over, sending).await?;
    match is_last {
        true => Err("transport close"),
        false => Ok(()),
    }
}

impl Framing {
    fn ping(&self) -> Message {
        match self {
            Self::Engine => Message::text("2"),
            Self::Plain(_) => Message::Ping(Bytes::new()),
        }
    }

    /// What is sent, and whether it is the last.
    fn message(&self, frame: &Frame) -> (Message, bool) {
        match self {
            Self::Engine => (Message::Text(frame.text.clone()), false),
            Self::Plain(_) => match plain::written(&frame.text) {
                Ok((text, is_last)) => (Message::text(text), is_last),
                // What is written here can be read here.
                Err(error) => {
                    tracing::error!(%error, "a packet is no frame");
                    (self.ping(), false)
                }
            },
        }
    }

    fn read(&self, text: &str) -> Result<Packet, ()> {
        match self {
            Self::Engine => Packet::of_text(text).map_err(drop),
            Self::Plain(namespace) => match plain::read(namespace, text) {
                Ok(packet) => Ok(Packet::Message(packet)),
                Err(error) => {
                    tracing::debug!(%error, "a client sends what is no frame");
                    Err(())
                }
            },
        }
    }
}

async fn say(stream: &mut Stream, client: &Client, text: &str) -> bool {
    let over = pin!(over(client));
    let said = within(client, over, stream.send(Message::text(text)));
    said.await.is_ok()
}

/// Writes, in time and before the connection is over; or why it is.
async fn within<E>(
    client: &Client,
    over: Pin<&mut impl Future<Output = &'static str>>,
    sending: impl Future<Output = Result<(), E>>,
) -> Result<(), &'static str> {
    tokio::select! {
        biased;
        why = over => Err(why),
        sent = timeout(client.realtime.limits.write_within, sending) => match sent {
            Ok(Ok(())) => Ok(()),
            _ => Err("transport error"),
        },
    }
}

/// The next packet; none at the end.
async fn next(stream: &mut Stream, framing: &Framing) -> Option<Result<Packet, ()>> {
    loop {
        let packet = match stream.next().await? {
            Ok(Message::Text(text)) => framing.read(&text),
            Ok(Message::Binary(bytes)) => Ok(Packet::Binary(bytes)),
            Ok(Message::Pong(_)) if matches!(framing, Framing::Plain(_)) => Ok(Packet::Pong),
            Ok(Message::Close(_)) => return None,
            Ok(_) => continue,
            Err(error) => {
                tracing::debug!(%error, "a connection broke off");
                return None;
            }
        };
        return Some(packet);
    }
}
