//! TLS on the listening side.

use std::fmt;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Peer;
use crate::connect::tls::{H2, peer_of};

/// How connections with TLS are taken. Cheap to clone.
///
/// # Guarantees
/// A configuration that is stored anew is that of the next connection; those that are open go on. Whether a client has
/// to have a certificate, and whose, is the configuration's to say.
#[derive(Clone)]
pub struct TlsServer {
    config: Arc<ArcSwap<ServerConfig>>,
}

impl TlsServer {
    /// Connections with this configuration.
    pub fn new(config: Arc<ArcSwap<ServerConfig>>) -> Self {
        Self { config }
    }

    pub(super) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<Peer>)> {
        let mut config = ServerConfig::clone(&self.config.load());
        config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
        let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
        let peer = peer_of(stream.get_ref().1.peer_certificates());
        Ok((stream, peer))
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").finish_non_exhaustive()
    }
}
