//! Packets over a WebSocket.

use std::pin::{Pin, pin};
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
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
use super::{Refusal, connect};
use crate::client::Client;
use crate::realtime::Inner;

type Stream = WebSocketStream<TokioIo<Upgraded>>;

/// What a read takes from the system at once: most packets of clients are shorter, and an idle connection keeps it.
const READ_BYTES: usize = 1024;
/// What is given to the system at once.
const WRITE_BYTES: usize = 64 * 1024;

/// Takes an upgrade: of a new connection, or of one that polls.
pub(super) fn take(
    inner: &Arc<Inner>,
    link: Option<Arc<Link>>,
    mut request: Request<Body>,
) -> Result<Response, Refusal> {
    let accept = accept_key(request.headers()).ok_or(Refusal::BadRequest)?;
    let upgrade = request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .ok_or(Refusal::BadRequest)?;
    let (link, is_new) = match link {
        Some(link) => (link, false),
        None => (connect(inner, &request)?, true),
    };
    if !is_new && *link.means.lock() != Means::Polling {
        return Err(Refusal::BadRequest);
    }
    if is_new {
        *link.means.lock() = Means::WebSocket;
    }
    inner.tasks.spawn(run(link, upgrade, is_new));
    let headers = [
        (header::CONNECTION, "upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
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

async fn run(link: Arc<Link>, upgrade: OnUpgrade, is_new: bool) {
    let client = link.client.clone();
    let Ok(upgraded) = upgrade.await else {
        if is_new {
            client.ends("transport close");
        }
        return;
    };
    let limits = &client.realtime.limits;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(WRITE_BYTES)
        .max_write_buffer_size(usize::MAX)
        .max_message_size(Some(limits.payload_max))
        .max_frame_size(Some(limits.payload_max));
    let io = TokioIo::new(upgraded);
    let mut stream = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let is_ready = match is_new {
        true => say(&mut stream, &client, &link.opening(&[])).await,
        false => probe(&link, &mut stream).await,
    };
    if is_ready {
        let why = serve(&link, &mut stream).await;
        client.ends(why);
        // A client that has gone does not hear it.
        drop(timeout(limits.write_within, stream.close(None)).await);
    } else if is_new {
        client.ends("transport error");
    }
}

/// Shows that it works, and then takes over from polling.
async fn probe(link: &Arc<Link>, stream: &mut Stream) -> bool {
    let client = &link.client;
    let probed = timeout(client.realtime.limits.ping_within, async {
        match next(stream).await {
            Some(Ok(Packet::Ping(text))) => {
                *link.means.lock() = Means::Probed;
                let answered = say(stream, client, &format!("3{text}")).await;
                // The request that waits is answered with what there is, so that the client can let go of it.
                client.queue.wake();
                answered && matches!(next(stream).await, Some(Ok(Packet::Upgrade)))
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
async fn serve(link: &Arc<Link>, stream: &mut Stream) -> &'static str {
    let client = &link.client;
    // Made once, and not for each packet: each has a place in a list that all connections look through.
    let mut over = pin!(over(client));
    let mut beat = pin!(link.beat());
    loop {
        tokio::select! {
            biased;
            why = &mut over => return why,
            () = client.queue.ready() => {
                if let Err(why) = flush(stream, client, over.as_mut()).await {
                    return why;
                }
            }
            packet = next(stream) => match packet {
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
                        let asked = stream.send(Message::text("2"));
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
    stream: &mut Stream,
    client: &Client,
    over: Pin<&mut impl Future<Output = &'static str>>,
) -> Result<(), &'static str> {
    let frames = client.queue.take(WRITE_BYTES);
    let sending = async {
        for frame in frames {
            stream.feed(Message::Text(frame.text.clone())).await?;
            for attachment in &frame.attachments {
                stream.feed(Message::Binary(attachment.clone())).await?;
            }
        }
        stream.flush().await
    };
    within(client, over, sending).await
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
async fn next(stream: &mut Stream) -> Option<Result<Packet, ()>> {
    loop {
        let packet = match stream.next().await? {
            Ok(Message::Text(text)) => Packet::of_text(&text).map_err(drop),
            Ok(Message::Binary(bytes)) => Ok(Packet::Binary(bytes)),
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
