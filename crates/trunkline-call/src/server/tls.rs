//! TLS on the listening side.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Peer;
use crate::connect::tls::{H2, peer_of};

/// How connections with TLS are taken. Cheap to clone.
///
/// # Guarantees
/// Whether a client has to have a certificate, and whose, is the configuration's to say, at each handshake anew; those
/// of `trunkline_security` decide by what is loaded then. Connections that are open go on.
#[derive(Clone)]
pub struct TlsServer {
    acceptor: TlsAcceptor,
    refused: Arc<Refused>,
}

/// Is told why a handshake failed.
type Refused = dyn Fn(&rustls::Error) + Send + Sync;

impl TlsServer {
    /// Connections with this configuration.
    pub fn new(config: &ServerConfig) -> Self {
        let mut config = config.clone();
        config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
        Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            refused: Arc::new(|_| {}),
        }
    }

    /// Tells of each client with which no connection came about, and why. Quickly: the next one waits for it.
    #[must_use]
    pub fn on_refusal(self, told: impl Fn(&rustls::Error) + Send + Sync + 'static) -> Self {
        Self {
            refused: Arc::new(told),
            ..self
        }
    }

    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<Peer>)> {
        let accepted = self.acceptor.accept(stream).await;
        let stream = accepted.inspect_err(|error| {
            let why = error.get_ref().and_then(|why| why.downcast_ref());
            if let Some(why) = why {
                (self.refused)(why);
            }
        })?;
        let peer = peer_of(stream.get_ref().1.peer_certificates());
        Ok((stream, peer))
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").finish_non_exhaustive()
    }
}
