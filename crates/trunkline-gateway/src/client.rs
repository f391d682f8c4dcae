//! Whoever is at the other end of a connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderValue;
use parking_lot::Mutex;
use trunkline_core::ByteString;

use crate::tls::Shown;
use crate::upgrade::Ends;

/// What is known of a connection, for all its requests.
pub(crate) struct Client {
    pub(crate) remote: IpAddr,
    /// The same as headers tell it.
    pub(crate) address: HeaderValue,
    /// The port that it came to, as headers tell it.
    pub(crate) port: HeaderValue,
    /// How it was secured, if it was.
    pub(crate) session: Option<Session>,
    is_tunnel: AtomicBool,
    /// Its two ends, if the other one is not in this process.
    ends: Mutex<Option<Ends>>,
}

/// What came of a handshake.
pub(crate) struct Session {
    /// The name that the client asked for, in small letters.
    pub(crate) sni: Option<ByteString>,
    /// The certificate that it was shown.
    pub(crate) shown: Arc<Shown>,
}

impl Client {
    pub(crate) fn new(remote: SocketAddr, port: u16, session: Option<Session>) -> Self {
        let remote = remote.ip().to_canonical();
        let address = HeaderValue::try_from(remote.to_string());
        Self {
            address: address.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            port: port.into(),
            remote,
            session,
            is_tunnel: AtomicBool::new(false),
            ends: Mutex::default(),
        }
    }

    /// From now on the connection carries another protocol. A service of this process has taken it where there are no
    /// ends.
    pub(crate) fn switch(&self, ends: Option<Ends>) {
        *self.ends.lock() = ends;
        self.is_tunnel.store(true, Ordering::Release);
    }

    pub(crate) fn is_tunnel(&self) -> bool {
        self.is_tunnel.load(Ordering::Acquire)
    }

    pub(crate) fn take_ends(&self) -> Option<Ends> {
        self.ends.lock().take()
    }
}

impl Session {
    /// Whether a request for this host belongs on the connection: it is the name that the client asked for, or the
    /// certificate is of it too.
    pub(crate) fn is_for(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let asked = self.sni.as_deref();
        asked.is_none_or(|asked| asked.eq_ignore_ascii_case(host)) || self.shown.names(host)
    }
}
