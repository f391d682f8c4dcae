//! A namespace on a plain WebSocket, for those who want no Socket.IO: each text is one frame of JSON.
//!
//! | from the client | |
//! |---|---|
//! | `{"type": "game-move", "data": …}` | an event; with `"id": 7` it is acknowledged |
//! | `{"type": "ack", "id": 3, "data": …}` | the answer to what it was asked |
//!
//! | to the client | |
//! |---|---|
//! | `{"type": "connected", "data": {"sid", "pid"}}` | the first frame; or `connect_error`, and it is over |
//! | `{"type": "game-updated", "data": …}` | an event, with its `offset` where it recovers, with an `id` where it has to be answered, and with the number of `bytes` where so many binary messages follow |
//! | `{"type": "ack", "id": 7, "data": …}` | an acknowledgement, or `error` with `code` and `message` in the place of `data` |
//! | `{"type": "disconnected"}` | the last frame |

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytestring::ByteString;
use http::Request;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use trunkline_core::Result;

use super::packet::bad;
use super::websocket::{self, Framing};
use super::{Refusal, connect};
use crate::packet::{Kind, Packet};
use crate::realtime::Inner;

/// What a client shows in its request's query, for a browser can't give headers.
const SHOWN: [&str; 3] = ["token", "pid", "offset"];

/// Takes an upgrade to frames of this namespace.
pub(super) fn take(
    inner: &Arc<Inner>,
    namespace: ByteString,
    mut request: Request<Body>,
) -> Result<Response, Refusal> {
    let (upgrade, accepted) = websocket::upgrade(&mut request)?;
    let link = connect(inner, &request)?;
    let opening = opening(&namespace, request.uri().query().unwrap_or_default());
    if link.take(opening).is_err() {
        return Err(Refusal::BadRequest);
    }
    let framing = Framing::Plain(namespace);
    inner.tasks.spawn(websocket::run(link, upgrade, framing));
    Ok(accepted)
}

/// The connection to the namespace, which needs no frame.
fn opening(namespace: &str, query: &str) -> super::packet::Packet {
    let shown = form_urlencoded::parse(query.as_bytes());
    let shown = shown.filter(|(key, _)| SHOWN.contains(&&**key));
    let auth: Map<String, Value> = shown
        .map(|(key, value)| (key.into_owned(), Value::String(value.into_owned())))
        .collect();
    super::packet::Packet::Message(format!("0{namespace},{}", Value::Object(auth)))
}

#[derive(Deserialize)]
struct Given<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    id: Option<u64>,
}

/// A frame of a client, as a packet of Socket.IO.
///
/// # Errors
/// `InvalidInput` for what is no frame, with where it is wrong.
pub(super) fn read(namespace: &str, text: &str) -> Result<String> {
    let given: Given<'_> = serde_json::from_str(text).map_err(|error| {
        bad("expected a frame such as {\"type\": \"game-move\", \"data\": …}").with_source(error)
    })?;
    let data = given.data.map_or("null", RawValue::get);
    let id = given.id.map(|id| id.to_string()).unwrap_or_default();
    if given.kind != "ack" {
        let kind = Value::String(given.kind);
        return Ok(format!("2{namespace},{id}[{kind},{data}]"));
    }
    if given.id.is_none() {
        return Err(bad("expected the `id` of what is answered"));
    }
    Ok(format!("3{namespace},{id}[{data}]"))
}

/// What a packet is as a frame, and whether it is the last.
pub(super) fn written(text: &str) -> Result<(String, bool)> {
    let packet = Packet::read(text.get(1..).unwrap_or_default())?;
    let mut frame = Map::new();
    let mut put = |key: &str, value: Value| drop(frame.insert(key.to_owned(), value));
    let is_last = matches!(packet.kind, Kind::ConnectError | Kind::Disconnect);
    if let Some(id) = packet.ack {
        put("id", id.into());
    }
    let mut values = match packet.data {
        Some(Value::Array(values)) => values.into_iter(),
        Some(data) => vec![data].into_iter(),
        None => Vec::new().into_iter(),
    };
    match packet.kind {
        Kind::Connect => put("type", "connected".into()),
        Kind::Disconnect => put("type", "disconnected".into()),
        Kind::Ack => put("type", "ack".into()),
        Kind::Event => put("type", values.next().unwrap_or_default()),
        Kind::ConnectError => {
            let refused = values.next().unwrap_or_default();
            let code = refused.pointer("/data/code").cloned();
            put("type", "connect_error".into());
            let data = json!({ "code": code, "message": refused.get("message") });
            put("data", data);
        }
    }
    match values.next() {
        Some(Value::Object(mut only)) if packet.kind == Kind::Ack && only.len() == 1 => {
            match only.remove("error") {
                Some(error) => put("error", error),
                None => put("data", Value::Object(only)),
            }
        }
        Some(data) => put("data", data),
        None => {}
    }
    if packet.attachments > 0 {
        put("bytes", packet.attachments.into());
    }
    // Between the data and the offset stand the places of bytes, which are no texts.
    if let Some(offset) = values.find(Value::is_string) {
        put("offset", offset);
    }
    Ok((Value::Object(frame).to_string(), is_last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_clients_are_packets() {
        let packet = |text| read("/games", text).unwrap();
        assert_eq!(
            packet(r#"{"type":"move","data":{"a":1},"id":7}"#),
            r#"2/games,7["move",{"a":1}]"#
        );
        assert_eq!(
            packet(r#"{"type":"say \"x\""}"#),
            r#"2/games,["say \"x\"",null]"#
        );
        assert_eq!(
            packet(r#"{"type":"ack","id":3,"data":[1]}"#),
            "3/games,3[[1]]"
        );
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"type":5}"#,
            r#"{"type":"a","id":-1}"#,
            r#"{"type":"ack"}"#,
        ] {
            assert!(read("/games", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn packets_are_frames() {
        let frame = |text: &str| {
            let (text, is_last) = written(text).unwrap();
            (serde_json::from_str::<Value>(&text).unwrap(), is_last)
        };
        let moved = json!({ "type": "moved", "data": "e4", "offset": "7-0" });
        assert_eq!(frame(r#"42/games,["moved","e4","7-0"]"#), (moved, false));
        let bytes = json!({ "type": "image", "data": 1, "bytes": 1, "offset": "7-1" });
        let packet = r#"451-/games,["image",1,{"_placeholder":true,"num":0},"7-1"]"#;
        assert_eq!(frame(packet), (bytes, false));
        let refused = json!({ "type": "ack", "id": 7, "error": { "code": "x" } });
        assert_eq!(
            frame(r#"43/games,7[{"error":{"code":"x"}}]"#),
            (refused, false)
        );
        assert_eq!(frame(r#"43/games,8[{"a":1}]"#).0["data"], json!({ "a": 1 }));
        // What was taken out of an acknowledgement's only field stays in it.
        assert_eq!(
            frame("43/games,9[]"),
            (json!({ "type": "ack", "id": 9 }), false)
        );
        let refused = json!({ "type": "connect_error", "data": { "code": "c", "message": "m" } });
        assert_eq!(
            frame(r#"44/games,{"message":"m","data":{"code":"c"}}"#),
            (refused, true)
        );
        assert_eq!(
            frame("41/games,"),
            (json!({ "type": "disconnected" }), true)
        );
        let connected = json!({ "type": "connected", "data": { "sid": "s" } });
        assert_eq!(frame(r#"40/games,{"sid":"s"}"#), (connected, false));
    }
}
