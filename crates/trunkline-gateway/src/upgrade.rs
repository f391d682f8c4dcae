//! WebSocket: requests after which a connection carries another protocol.

use std::io;

use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use trunkline_call::Body;
use trunkline_core::{Error, Result, Retry};

use crate::client::Client;

/// The one protocol that is gone on in.
const WEBSOCKET: &str = "websocket";

/// The client's connection, if the request asks to go on in WebSocket. Taken out of the request, so that nobody behind
/// the gateway has it who was not asked.
pub(crate) fn asked(request: &mut Parts, is_bodiless: bool) -> Option<OnUpgrade> {
    // hyper puts it there for `Upgrade` in HTTP/1.1, and for CONNECT.
    let near = request.extensions.remove::<OnUpgrade>()?;
    let is_asked = is_bodiless
        && request.method == Method::GET
        && names(&request.headers, &CONNECTION, "upgrade")
        && names(&request.headers, &UPGRADE, WEBSOCKET);
    is_asked.then_some(near)
}

fn names(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter();
    let mut words = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    words.any(|given| given.trim().eq_ignore_ascii_case(word))
}

/// Says on this hop too that the request, or its answer, goes on in WebSocket.
pub(crate) fn announce(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// Joins a client to the service that goes on in another protocol; any other answer is an answer.
///
/// # Errors
/// `Unavailable` (`upgrade_unasked`) for a service that goes on where nobody asked it to.
pub(crate) fn settle(
    client: &Client,
    near: Option<&OnUpgrade>,
    response: &mut Response<Body>,
) -> Result<()> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(());
    }
    let Some(near) = near else {
        let text = "the service went on in a protocol that was not asked for";
        return Err(Error::unavailable("upgrade_unasked", text).with_retry(Retry::Permanent));
    };
    // A service of this process has taken the client's connection itself.
    let far = response.extensions_mut().remove::<OnUpgrade>();
    client.switch(far.map(|far| Ends {
        near: near.clone(),
        far,
    }));
    announce(response.headers_mut());
    Ok(())
}

/// The two connections of a tunnel.
pub(crate) struct Ends {
    near: OnUpgrade,
    far: OnUpgrade,
}

impl Ends {
    /// Carries bytes both ways until both have ended or one has broken.
    pub(crate) async fn carry(self) -> io::Result<()> {
        let (near, far) = futures::try_join!(self.near, self.far).map_err(io::Error::other)?;
        let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
        copy_bidirectional(&mut near, &mut far).await?;
        Ok(())
    }
}
