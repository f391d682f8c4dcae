//! TLS in: certificates by name, what was agreed on, and changes while clients are connected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::Request;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trunkline_gateway::{Certificate, Config, Limits, Route, Schemes};
use trunkline_testkit::eventually;

use crate::h2;
use crate::kit::{Kit, SOON, config, echo, read_all, read_until, start, start_with};

/// A certificate that vouches for itself, for these names.
pub(crate) struct Own {
    pub(crate) pem: String,
    pub(crate) key: String,
    der: CertificateDer<'static>,
}

pub(crate) fn own(names: &[&str]) -> Own {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    Own {
        pem: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
        der: made.cert.der().clone(),
    }
}

impl Own {
    fn shown(&self, snis: &[&str]) -> Certificate {
        let certificate = Certificate::new(&*self.pem, &*self.key);
        snis.iter()
            .fold(certificate, |certificate, name| certificate.sni(*name))
    }
}

fn secured(
    routes: impl IntoIterator<Item = Route>,
    certificates: impl IntoIterator<Item = Certificate>,
) -> Config {
    let mut config = config(routes);
    config.certificates = certificates.into_iter().collect();
    config
}

/// Connects, trusting this certificate alone.
pub(crate) async fn try_tls(
    kit: &Kit,
    own: &Own,
    name: &str,
    alpn: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(own.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let stream = TcpStream::connect(kit.tls_address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

async fn tls(kit: &Kit, own: &Own, name: &str) -> TlsStream<TcpStream> {
    try_tls(kit, own, name, "http/1.1").await.unwrap()
}

async fn ask(stream: &mut TlsStream<TcpStream>, host: &str, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    read_all(stream).await
}

#[tokio::test]
async fn a_certificate_is_chosen_by_the_name_that_is_asked_for() {
    let (shop, below, above, other) = (
        own(&["shop.example.com"]),
        own(&["*.example.com"]),
        own(&["till.example.org"]),
        own(&["other.test"]),
    );
    let kit = start(secured(
        [Route::new("api", "/api")],
        [
            other.shown(&[]),
            shop.shown(&["shop.example.com"]),
            below.shown(&["*.example.com"]),
            above.shown(&["till.example.*"]),
        ],
    ))
    .await;
    for (name, trusted) in [
        ("shop.example.com", &shop),
        ("SHOP.example.com", &shop),
        ("cash.example.com", &below),
        ("till.example.org", &above),
        // The first one, for a name that nobody has.
        ("other.test", &other),
    ] {
        let mut stream = tls(&kit, trusted, name).await;
        let said = ask(&mut stream, name, "/api").await;
        assert!(said.starts_with("HTTP/1.1 200"), "{name}: {said}");
        assert!(said.contains("\"x-forwarded-proto\",\"https\""), "{said}");
        let port = kit.tls_address.port();
        let told = format!("\"x-forwarded-port\",\"{port}\"");
        assert!(said.contains(&told), "{said}");
    }
    let refused = try_tls(&kit, &shop, "cash.example.com", "http/1.1").await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn which_version_is_spoken_is_agreed_on() {
    let shop = own(&["shop"]);
    let kit = start(secured(
        [Route::new("api", "/api")],
        [shop.shown(&["shop"])],
    ))
    .await;
    let stream = try_tls(&kit, &shop, "shop", "h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, _drives) = h2::client(stream).await;
    let request = Request::get("https://shop/api")
        .body(Body::empty())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let (status, _, body) = h2::read(response).await;
    assert_eq!(status, 200);
    assert!(body.contains("\"x-forwarded-proto\",\"https\""), "{body}");
    // Plain and secured beside each other.
    assert_eq!(kit.get("/api").await.status, 200);
    // What is no handshake is no request.
    let mut plain = TcpStream::connect(kit.tls_address).await.unwrap();
    plain
        .write_all(b"GET /api HTTP/1.1\r\nhost: shop\r\n\r\n")
        .await
        .unwrap();
    assert!(!read_all(&mut plain).await.contains("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_host_that_the_connection_is_not_for_is_misdirected() {
    let both = own(&["a.test", "b.test", "*.c.test"]);
    let kit = start(secured(
        [Route::new("api", "/api")],
        [both.shown(&["a.test"])],
    ))
    .await;
    for (host, status) in [
        ("a.test", 200),
        ("A.test:443", 200),
        ("a.test.", 200),
        // The certificate is of them too: a client may share the connection.
        ("b.test", 200),
        ("x.c.test", 200),
        ("x.y.c.test", 421),
        ("c.test", 421),
        ("d.test", 421),
        ("127.0.0.1", 421),
    ] {
        let mut stream = tls(&kit, &both, "a.test").await;
        let said = ask(&mut stream, host, "/api").await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(said.starts_with(&expected), "{host}: {said}");
    }
}

#[tokio::test]
async fn routes_are_found_by_names_and_schemes() {
    let both = own(&["a.test", "b.test"]);
    let mut by_name = Route::new("name", "/x");
    by_name.snis = vec!["a.test".to_owned()];
    let mut only_tls = Route::new("tls", "/tls");
    only_tls.schemes = Schemes::Https;
    let mut only_plain = Route::new("plain", "/plain");
    only_plain.schemes = Schemes::Http;
    let routes = [by_name, only_tls, only_plain];
    let kit = start(secured(routes, [both.shown(&["a.test", "b.test"])])).await;
    for (name, path, status) in [
        ("a.test", "/x", 200),
        ("b.test", "/x", 404),
        ("a.test", "/tls", 200),
        ("a.test", "/plain", 404),
    ] {
        let mut stream = tls(&kit, &both, name).await;
        let said = ask(&mut stream, name, path).await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(said.starts_with(&expected), "{name}{path}: {said}");
    }
    // Without TLS there is no name to ask for.
    assert_eq!(kit.get("/x").await.status, 200);
    assert_eq!(kit.get("/tls").await.status, 426);
    assert_eq!(kit.get("/plain").await.status, 200);
}

#[tokio::test]
async fn certificates_that_are_wrong_are_named() {
    let (one, other) = (own(&["a.test"]), own(&["a.test"]));
    let crossed = Certificate::new(&*one.pem, &*other.key);
    let wrong = secured(
        [Route::new("api", "/api")],
        [
            Certificate::new("no PEM", &*one.key),
            Certificate::new(&*one.pem, "no PEM"),
            crossed,
            one.shown(&["a.test", "b c"]),
            other.shown(&["A.test"]),
        ],
    );
    let kit = start(config([Route::new("api", "/api")])).await;
    let error = kit.gateway.reload(&wrong).unwrap_err();
    let told = trunkline_core::report(&error).to_string();
    for wanted in [
        "certificates[0].cert",
        "certificates[1].key",
        "certificates[2].key",
        "certificates[3].snis",
        "certificates[4].snis: expected each name once, found `A.test`",
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    assert!(!told.contains("PRIVATE"), "{told}");
}

#[tokio::test]
async fn without_a_certificate_there_is_no_tls() {
    let kit = start(config([Route::new("api", "/api")])).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let served = kit
        .gateway
        .serve_tls(listener, std::future::pending())
        .await;
    assert_eq!(served.unwrap_err().code(), "certificate_missing");
    // One that loses its certificates refuses connections, and goes on when it has some again.
    let shop = own(&["shop"]);
    let with = || secured([Route::new("api", "/api")], [shop.shown(&["shop"])]);
    let kit = start(with()).await;
    tls(&kit, &shop, "shop").await;
    kit.gateway
        .reload(&config([Route::new("api", "/api")]))
        .unwrap();
    assert!(try_tls(&kit, &shop, "shop", "h2").await.is_err());
    kit.gateway.reload(&with()).unwrap();
    assert!(try_tls(&kit, &shop, "shop", "h2").await.is_ok());
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_cut_off() {
    let shop = own(&["shop"]);
    let mut limits = Limits::default();
    limits.handshake_within = Duration::from_millis(100);
    limits.handshakes_max = 1;
    let config = secured([Route::new("api", "/api")], [shop.shown(&["shop"])]);
    let kit = start_with(config, echo(), limits).await;
    let mut silent = TcpStream::connect(kit.tls_address).await.unwrap();
    silent.write_all(&[0x16, 3, 1]).await.unwrap();
    assert_eq!(read_all(&mut silent).await, "");
    // Its place is another's.
    let mut stream = tls(&kit, &shop, "shop").await;
    assert!(
        ask(&mut stream, "shop", "/api")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

/// Asks again and again on kept connections, in one version; returns what went wrong.
async fn load(
    address: std::net::SocketAddr,
    connector: TlsConnector,
    (stop, answered): (Arc<AtomicBool>, Arc<AtomicUsize>),
) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(|error| format!("connect: {error}"))?;
        let name = ServerName::try_from("shop").unwrap();
        let stream = connector.connect(name, stream).await;
        let mut stream = stream.map_err(|error| format!("handshake: {error}"))?;
        for _ in 0..20 {
            let request = b"GET /api HTTP/1.1\r\nhost: shop\r\n\r\n";
            let sent = stream.write_all(request).await;
            sent.map_err(|error| format!("write: {error}"))?;
            let mut said = Vec::new();
            while !said.ends_with(b"}") {
                let mut piece = [0; 4096];
                let read = stream.read(&mut piece).await;
                match read.map_err(|error| format!("read: {error}"))? {
                    0 => return Err("closed without an answer".to_owned()),
                    read => said.extend_from_slice(&piece[..read]),
                }
            }
            if !said.starts_with(b"HTTP/1.1 200") {
                return Err(String::from_utf8_lossy(&said).into_owned());
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_under_load_and_no_request_fails() {
    let (first, second) = (own(&["shop"]), own(&["shop"]));
    let of = |own: &Own| secured([Route::new("api", "/api")], [own.shown(&["shop"])]);
    let kit = start(of(&first)).await;
    // Before the change, and open all the while.
    let mut kept = tls(&kit, &first, "shop").await;
    let mut roots = RootCertStore::empty();
    for own in [&first, &second] {
        roots.add(own.der.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let trusting = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(trusting));
    let shared = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        clients.spawn(load(kit.tls_address, connector.clone(), shared.clone()));
    }
    let (stop, answered) = &shared;
    for round in 1..=20_usize {
        eventually(SOON, async || answered.load(Ordering::Relaxed) >= round * 5).await;
        let shown = if round % 2 == 0 { &first } else { &second };
        kit.gateway.reload(&of(shown)).unwrap();
        // Whoever comes now is shown the one that holds now.
        tls(&kit, shown, "shop").await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        assert_eq!(ended.unwrap(), Ok(()));
    }
    kept.write_all(b"GET /api HTTP/1.1\r\nhost: shop\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut kept, "\"uri\"").await;
}

#[tokio::test]
async fn a_stop_ends_connections_with_tls_too() {
    let shop = own(&["shop"]);
    let mut kit = start(secured(
        [Route::new("api", "/api")],
        [shop.shown(&["shop"])],
    ))
    .await;
    let mut stream = tls(&kit, &shop, "shop").await;
    let (_, drives) = h2::client(try_tls(&kit, &shop, "shop", "h2").await.unwrap()).await;
    kit.begin_stop();
    let said = ask(&mut stream, "shop", "/api").await;
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    drives.join_all().await;
    kit.stopped().await;
    assert_eq!(kit.gateway.connections(), 0);
}
