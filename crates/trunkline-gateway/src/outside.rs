//! Requests of the gateway's own: for keys, for documents, with log entries.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use trunkline_call::Body;
use trunkline_core::{Error, ErrorKind, Result};

/// What is read of an answer where nothing of it matters but its status.
pub(crate) const IGNORED_BYTES_MAX: usize = 64 * 1024;

/// One place outside that the gateway itself asks, by HTTP/1.1 with or without TLS. Requests go one after the other on one
/// connection.
pub(crate) struct Outside {
    target: Uri,
    authority: Authority,
    is_secure: bool,
    /// For one request with its answer, connecting included.
    within: Duration,
    /// A connection that was not used for longer is not used again.
    idle_max: Duration,
    kept: tokio::sync::Mutex<Option<Wire>>,
    /// Whom to trust, if not whom the system trusts.
    tls: Option<Arc<ClientConfig>>,
}

/// A connection: whoever sends a request drives it.
struct Wire {
    sender: SendRequest<Body>,
    connection: Pin<Box<Driver>>,
    used_at: Instant,
}

type Driver = Connection<TokioIo<Box<dyn Stream>>, Body>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Outside {
    /// A place by its URL.
    ///
    /// # Errors
    /// What was expected.
    pub(crate) fn new(url: &str, within: Duration, idle_max: Duration) -> Result<Self, String> {
        let expected = || format!("expected an http:// or https:// URL, found `{url}`");
        let target: Uri = url.parse().map_err(|_| expected())?;
        let is_secure = match target.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(expected()),
        };
        let authority = target.authority().cloned().ok_or_else(expected)?;
        if authority.as_str().contains('@') {
            return Err("expected a URL without a password: write `headers`".to_owned());
        }
        Ok(Self {
            target,
            authority,
            is_secure,
            within,
            idle_max,
            kept: tokio::sync::Mutex::new(None),
            tls: None,
        })
    }

    /// Asks for what is there; an answer that is no success is an error.
    pub(crate) async fn get(&self, bytes_max: usize) -> Result<Response<Bytes>> {
        let response = self
            .send(Method::GET, &HeaderMap::new(), Bytes::new(), bytes_max)
            .await?;
        self.success(response)
    }

    /// An error for an answer that is no success.
    pub(crate) fn success(&self, response: Response<Bytes>) -> Result<Response<Bytes>> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let kind = match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => ErrorKind::Unavailable,
            status if status.is_server_error() => ErrorKind::Unavailable,
            _ => ErrorKind::InvalidInput,
        };
        let error = Error::new(
            kind,
            "outside_refused",
            "another place refused the gateway's request",
        );
        Err(error.with("status", status).with("url", &self.target))
    }

    /// Sends a request and takes the whole answer.
    ///
    /// # Errors
    /// `Unavailable`, `DeadlineExceeded`, `TooLarge`.
    pub(crate) async fn send(
        &self,
        method: Method,
        headers: &HeaderMap,
        body: Bytes,
        bytes_max: usize,
    ) -> Result<Response<Bytes>> {
        let sending = async {
            let mut kept = self.kept.lock().await;
            let used = kept
                .take()
                .filter(|wire| wire.used_at.elapsed() < self.idle_max);
            if let Some(mut wire) = used
                && wire.is_open()
            {
                let request = self.request(&method, headers, body.clone())?;
                match wire.exchange(request, bytes_max).await {
                    Ok(response) => {
                        *kept = Some(wire);
                        return Ok(response);
                    }
                    // It was closed while it lay idle. What is sent here may come twice.
                    Err(error) if error.kind() == ErrorKind::Unavailable => {}
                    Err(error) => return Err(error),
                }
            }
            let mut wire = self.connect().await?;
            let request = self.request(&method, headers, body)?;
            let response = wire.exchange(request, bytes_max).await;
            if response.is_ok() {
                *kept = Some(wire);
            }
            response
        };
        let sent = timeout(self.within, sending).await.unwrap_or_else(|_| {
            let text = format!("no answer within {:?}", self.within);
            Err(Error::new(
                ErrorKind::DeadlineExceeded,
                "outside_slow",
                text,
            ))
        });
        sent.map_err(|error| error.with("url", &self.target))
    }

    fn request(&self, method: &Method, headers: &HeaderMap, body: Bytes) -> Result<Request<Body>> {
        let path = self
            .target
            .path_and_query()
            .map_or("/", PathAndQuery::as_str);
        let wrong =
            |error: http::Error| Error::internal("a request can't be made").with_source(error);
        let length = body.len();
        let request = Request::builder().method(method.clone()).uri(path);
        let mut request = request.body(Body::from(body)).map_err(wrong)?;
        let all = request.headers_mut();
        all.extend(headers.clone());
        let host = HeaderValue::try_from(self.authority.as_str());
        all.insert(HOST, host.map_err(|error| wrong(error.into()))?);
        if length > 0 {
            all.insert(CONTENT_LENGTH, length.into());
        }
        Ok(request)
    }

    async fn connect(&self) -> Result<Wire> {
        let host = self.authority.host().trim_matches(['[', ']']);
        let standard = if self.is_secure { 443 } else { 80 };
        let port = self.authority.port_u16().unwrap_or(standard);
        let stream = TcpStream::connect((host, port)).await.map_err(unreached)?;
        // Small requests go out at once; where the system refuses that, they go out later.
        drop(stream.set_nodelay(true));
        let stream: Box<dyn Stream> = if self.is_secure {
            let name = ServerName::try_from(host.to_owned()).map_err(unreached)?;
            let connector = TlsConnector::from(self.tls.clone().map_or_else(tls, Ok)?);
            Box::new(connector.connect(name, stream).await.map_err(unreached)?)
        } else {
            Box::new(stream)
        };
        let (sender, connection) = Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(unreached)?;
        Ok(Wire {
            sender,
            connection: Box::pin(connection),
            used_at: Instant::now(),
        })
    }
}

impl Wire {
    /// Whether nothing says that the other end has closed it.
    fn is_open(&mut self) -> bool {
        (&mut self.connection).now_or_never().is_none() && self.sender.is_ready()
    }

    async fn exchange(
        &mut self,
        request: Request<Body>,
        bytes_max: usize,
    ) -> Result<Response<Bytes>> {
        let sender = &mut self.sender;
        let work = async {
            let response = sender.send_request(request).await.map_err(unreached)?;
            let (parts, body) = response.into_parts();
            let body = whole(body, bytes_max).await?;
            Ok(Response::from_parts(parts, body))
        };
        let mut work = pin!(work);
        let done = tokio::select! {
            biased;
            done = &mut work => done,
            // It has ended; what came before that is still there.
            _ended = &mut self.connection => work.await,
        };
        self.used_at = Instant::now();
        done
    }
}

async fn whole(mut body: Incoming, bytes_max: usize) -> Result<Bytes> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame.map_err(unreached)?.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > bytes_max {
            let text = format!("expected an answer of at most {bytes_max} bytes");
            return Err(Error::new(ErrorKind::TooLarge, "outside_too_large", text));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

fn unreached(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unavailable("outside_unreachable", "another place can't be reached").with_source(error)
}

/// TLS as everybody speaks it: whoever the system trusts, by the name in the URL.
fn tls() -> Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let mut roots = RootCertStore::empty();
    // What can't be read is as good as not there.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("TLS can't be set up").with_source(error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(CONFIG.get_or_init(|| Arc::new(config)).clone())
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside")
            .field("url", &self.target)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
