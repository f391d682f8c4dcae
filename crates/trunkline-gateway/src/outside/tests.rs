use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::{any, get};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::*;

const WITHIN: Duration = Duration::from_secs(10);

/// A server that counts its connections, and ends each after so many requests.
struct Server {
    url: String,
    connections: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

async fn server(tls: Option<TlsAcceptor>, requests_max: usize) -> Server {
    let router = Router::new()
        .route("/echo", any(|body: String| async move { body }))
        .route("/long", get(|| async { "x".repeat(1_000) }))
        .route("/away", get(|| async { StatusCode::BAD_GATEWAY }))
        .route("/no", get(|| async { StatusCode::FORBIDDEN }))
        .route(
            "/hangs",
            get(|| async { std::future::pending::<&str>().await }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!(
        "{scheme}://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let connections = Arc::new(AtomicUsize::new(0));
    let (count, mut task) = (connections.clone(), JoinSet::new());
    task.spawn(async move {
        let mut all = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let (tls, router) = (tls.clone(), router.clone());
            all.spawn(async move {
                let stream: Box<dyn Stream> = match tls {
                    None => Box::new(stream),
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => return,
                    },
                };
                let left = AtomicUsize::new(requests_max);
                let service = hyper::service::service_fn(|request: Request<Incoming>| {
                    let ends = left.fetch_sub(1, Ordering::Relaxed) == 1;
                    let router = router.clone();
                    async move {
                        let mut response =
                            tower::ServiceExt::oneshot(router, request).await.unwrap();
                        if ends {
                            let close = HeaderValue::from_static("close");
                            response
                                .headers_mut()
                                .insert(http::header::CONNECTION, close);
                        }
                        Ok::<_, std::convert::Infallible>(response)
                    }
                });
                let serving = hyper::server::conn::http1::Builder::new();
                drop(
                    serving
                        .serve_connection(TokioIo::new(stream), service)
                        .await,
                );
            });
        }
    });
    Server {
        url,
        connections,
        _task: task,
    }
}

impl Server {
    fn outside(&self, path: &str) -> Outside {
        Outside::new(&format!("{}{path}", self.url), WITHIN, WITHIN).unwrap()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn echo(outside: &Outside, text: &'static str) -> Result<Bytes> {
    let body = Bytes::from_static(text.as_bytes());
    let sent = outside
        .send(Method::POST, &HeaderMap::new(), body, 100)
        .await;
    sent.map(Response::into_body)
}

#[tokio::test]
async fn a_connection_is_kept_and_made_anew_when_it_was_closed() {
    let kept = server(None, usize::MAX).await;
    let outside = kept.outside("/echo");
    for _ in 0..5 {
        assert_eq!(echo(&outside, "a").await.unwrap(), "a");
    }
    assert_eq!(kept.connections(), 1);
    let closing = server(None, 2).await;
    let outside = closing.outside("/echo");
    for _ in 0..6 {
        assert_eq!(echo(&outside, "b").await.unwrap(), "b");
    }
    assert_eq!(closing.connections(), 3);
    let idle = Outside::new(&format!("{}/echo", kept.url), WITHIN, Duration::ZERO).unwrap();
    echo(&idle, "a").await.unwrap();
    echo(&idle, "a").await.unwrap();
    assert_eq!(kept.connections(), 3, "too old to be used again");
}

#[tokio::test]
async fn what_another_place_does_has_bounds() {
    let server = server(None, usize::MAX).await;
    let code = async |path: &str| {
        let outside = server.outside(path);
        let error = outside.get(500).await.unwrap_err();
        (error.code().to_owned(), error.retry())
    };
    use trunkline_core::Retry::{Permanent, Transient};
    assert_eq!(code("/long").await.0, "outside_too_large");
    assert_eq!(
        code("/away").await,
        ("outside_refused".to_owned(), Transient)
    );
    assert_eq!(code("/no").await, ("outside_refused".to_owned(), Permanent));
    let slow = Outside::new(
        &format!("{}/hangs", server.url),
        Duration::from_millis(20),
        WITHIN,
    );
    assert_eq!(
        slow.unwrap().get(500).await.unwrap_err().code(),
        "outside_slow"
    );
    let gone = Outside::new("http://127.0.0.1:1/", WITHIN, WITHIN).unwrap();
    assert_eq!(
        gone.get(500).await.unwrap_err().code(),
        "outside_unreachable"
    );
}

#[tokio::test]
async fn over_tls_only_who_is_trusted_is_asked() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let server = server(Some(TlsAcceptor::from(Arc::new(config))), usize::MAX).await;
    let error = echo(&server.outside("/echo"), "a").await.unwrap_err();
    assert_eq!(error.code(), "outside_unreachable");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let trusting = |url: String| Outside {
        tls: Some(Arc::new(config.clone())),
        ..Outside::new(&url, WITHIN, WITHIN).unwrap()
    };
    let outside = trusting(format!("{}/echo", server.url));
    assert_eq!(echo(&outside, "a").await.unwrap(), "a");
    assert_eq!(echo(&outside, "b").await.unwrap(), "b");
    let another = server.url.replace("localhost", "127.0.0.1");
    let error = echo(&trusting(format!("{another}/echo")), "a")
        .await
        .unwrap_err();
    assert_eq!(
        error.code(),
        "outside_unreachable",
        "the certificate is localhost's"
    );
}

#[test]
fn what_is_no_url_is_refused() {
    for (url, said) in [
        ("localhost", "expected an http:// or https:// URL"),
        ("ftp://x/y", "expected an http:// or https:// URL"),
        ("http:///x", "expected an http:// or https:// URL"),
        ("http://u:p@x/", "expected a URL without a password"),
    ] {
        let error = Outside::new(url, WITHIN, WITHIN).unwrap_err();
        assert!(error.starts_with(said), "{url}: {error}");
    }
}
