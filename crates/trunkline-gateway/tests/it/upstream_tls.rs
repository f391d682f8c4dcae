//! TLS between the gateway and its services: who is believed, and what is shown.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::any;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use trunkline_gateway::Config;
use trunkline_testkit::eventually;

use crate::kit::{SOON, start};
use crate::targets::{Target, file};

/// An authority, and what it signs: certificates and keys as PEM.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    pub(crate) fn signs(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        (signed.pem(), key.serialize_pem())
    }

    /// A server of this name, which asks its clients for certificates of this authority if `asks`.
    pub(crate) fn server(&self, name: &str, asks: bool, protocols: &[&str]) -> TlsAcceptor {
        let (cert, key) = self.signs(name);
        let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap())
            .unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        let builder = match asks {
            true => builder.with_client_cert_verifier(verifier.build().unwrap()),
            false => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Certificates of the file: the authority as `ca`, one of ours as `own`.
fn certificates(ca: &Ca, rest: &str) -> String {
    let (cert, key) = ca.signs("gateway.example");
    let pem = |text: &str| serde_json::to_string(text).unwrap();
    format!(
        "{rest}ca_certificates:\n- id: ca\n  cert: {}\ncertificates:\n- id: own\n  cert: {}\n  key: {}\n",
        pem(&ca.pem),
        pem(&cert),
        pem(&key),
    )
}

const TRUSTS: &str = "  ca_certificates: [ca]\n";

#[tokio::test]
async fn a_service_has_to_have_a_certificate_that_is_trusted_and_its_own() {
    let ca = Ca::new();
    let tls = ca.server("localhost", false, &[]);
    let target = Target::start_with("t-a", Some(tls)).await;
    let port = target.at.port();
    let known = certificates(&ca, "");
    let config =
        |host: &str, service: &str| file(&format!("https://{host}:{port}"), service, &known);
    let kit = start(config("localhost", TRUSTS)).await;
    for _ in 0..3 {
        assert_eq!(kit.get("/r").await.body, "t-a");
    }
    assert_eq!((target.connections(), target.requests()), (1, 3));
    // Another's name, and authorities that know nothing of it: nothing is sent.
    for (host, service) in [("127.0.0.1", TRUSTS), ("localhost", "")] {
        kit.gateway.reload(&config(host, service)).unwrap();
        kit.send("POST /r", "", "secret")
            .await
            .is_problem(502, "upstream_unreachable");
    }
    assert_eq!(target.requests(), 3);
    kit.gateway
        .reload(&config("127.0.0.1", "  tls_verify: false\n"))
        .unwrap();
    assert_eq!(kit.get("/r").await.body, "t-a");
    // What is wrong with a file is told by its place.
    let text = format!(
        "{:?}",
        kit.gateway
            .reload(&config("localhost", "  ca_certificates: [x]\n"))
    );
    assert!(text.contains("services[0].ca_certificates"), "{text}");
}

#[tokio::test]
async fn the_name_that_is_asked_for_is_the_host_of_the_upstream() {
    let ca = Ca::new();
    let target = Target::start_with("t-a", Some(ca.server("shop.inside", false, &[]))).await;
    let upstream = format!(
        "upstreams:\n- name: u\n  host_header: shop.inside:8443\n  targets: [{{target: '{}'}}]\n",
        target.at
    );
    let kit = start(file("https://u", TRUSTS, &certificates(&ca, &upstream))).await;
    assert_eq!(kit.get("/r").await.body, "t-a");
    assert!(target.last_head().contains("host: shop.inside:8443\r\n"));
}

#[tokio::test]
async fn a_service_that_asks_is_shown_a_certificate() {
    let ca = Ca::new();
    let target = Target::start_with("t-a", Some(ca.server("localhost", true, &[]))).await;
    let url = format!("https://localhost:{}", target.at.port());
    let known = certificates(&ca, "");
    let kit = start(file(&url, TRUSTS, &known)).await;
    kit.get("/r").await.is_problem(502, "upstream_unreachable");
    assert_eq!(target.requests(), 0);
    let shows = format!("{TRUSTS}  client_certificate: own\n");
    kit.gateway.reload(&file(&url, &shows, &known)).unwrap();
    assert_eq!(kit.get("/r").await.body, "t-a");
}

#[tokio::test]
async fn who_is_healthy_is_asked_with_tls() {
    let ca = Ca::new();
    let target = Target::start_with("t-a", Some(ca.server("localhost", false, &[]))).await;
    let upstream = |verifies: bool| {
        format!(
            "upstreams:\n- name: u\n  healthchecks: {{active: {{type: https, https_verify_certificate: {verifies}, headers: {{x-probe: [a]}}, healthy: {{interval: 0.02, successes: 1}}, unhealthy: {{interval: 0.02, tcp_failures: 1}}}}}}\n  targets: [{{target: 'localhost:{}'}}]\n",
            target.at.port()
        )
    };
    let kit = start(file("https://u", "  tls_verify: false\n", &upstream(true))).await;
    // The system knows nothing of this authority.
    eventually(SOON, async || !kit.gateway.upstreams()[0].is_healthy).await;
    assert_eq!(target.requests(), 0);
    kit.gateway
        .reload(&file(
            "https://u",
            "  tls_verify: false\n",
            &upstream(false),
        ))
        .unwrap();
    eventually(SOON, async || kit.gateway.upstreams()[0].is_healthy).await;
    assert!(target.last_head().contains("x-probe: a\r\n"));
}

/// A server that says which protocol it was spoken to by, and for whom.
async fn polyglot(tls: Option<TlsAcceptor>) -> (SocketAddr, JoinSet<()>) {
    let router = Router::new().fallback(any(|request: Request| async move {
        let authority = request.uri().authority().map(ToString::to_string);
        format!("{:?} {}", request.version(), authority.unwrap_or_default())
    }));
    serving(router, tls).await
}

/// A server of HTTP/1.1 and HTTP/2, perhaps with TLS; it ends with what keeps it, and all its connections with it.
pub(crate) async fn serving(router: Router, tls: Option<TlsAcceptor>) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (router, tls) = (router.clone(), tls.clone());
            open.spawn(async move {
                match tls {
                    None => answer(stream, router).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            answer(stream, router).await;
                        }
                    }
                }
            });
        }
    });
    (at, tasks)
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, router: Router) {
    let service = TowerToHyperService::new(router);
    let builder = auto::Builder::new(TokioExecutor::new());
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    drop(served.await);
}

#[tokio::test]
async fn each_protocol_is_spoken_where_it_is_asked_for() {
    let ca = Ca::new();
    let known = certificates(&ca, "");
    let both = ca.server("localhost", false, &["h2", "http/1.1"]);
    let old = ca.server("localhost", false, &["http/1.1"]);
    let new = ca.server("localhost", false, &["h2"]);
    let rows: [(&str, Option<TlsAcceptor>, &str); 7] = [
        ("http", None, "HTTP/1.1 "),
        ("grpc", None, "HTTP/2.0 localhost:PORT"),
        ("https", Some(both.clone()), "HTTP/2.0 localhost:PORT"),
        ("https", Some(old.clone()), "HTTP/1.1 "),
        ("https", Some(new.clone()), "HTTP/2.0 localhost:PORT"),
        ("grpcs", Some(new), "HTTP/2.0 localhost:PORT"),
        ("grpcs", Some(old), "502"),
    ];
    let kit = start(Config::default()).await;
    for (protocol, tls, expected) in rows {
        let (at, _server) = polyglot(tls).await;
        let url = format!("{protocol}://localhost:{}", at.port());
        let service = if protocol.ends_with('s') { TRUSTS } else { "" };
        kit.gateway.reload(&file(&url, service, &known)).unwrap();
        let expected = expected.replace("PORT", &at.port().to_string());
        for _ in 0..2 {
            let answer = kit.get("/r").await;
            if expected == "502" {
                answer.is_problem(502, "upstream_unreachable");
            } else {
                assert_eq!(answer.body, expected, "{protocol}");
            }
        }
    }
    // The client's own host stands in the address.
    let (at, _server) = polyglot(Some(both)).await;
    let url = format!("https://localhost:{}", at.port());
    let keeps = "    preserve_host: true\n";
    kit.gateway
        .reload(&file(&url, TRUSTS, &format!("{keeps}{known}")))
        .unwrap();
    assert_eq!(kit.get("/r").await.body, "HTTP/2.0 shop");
}
