//! Connections with certificates: who is let in, and who is believed.

use std::sync::Arc;

use http::Request;
use parking_lot::Mutex;
use rcgen::{CertificateParams, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use tempfile::TempDir;
use tokio::task::JoinSet;
use trunkline_security::{Authority, Certificates, CertificatesConfig, RotateStep};

use super::*;
use crate::TlsClient;
use crate::server::{Peer, TlsServer, serve_tls};

const HOUR: Duration = Duration::from_secs(3_600);

/// An authority, and what it signs.
struct Ca {
    folder: TempDir,
    authority: Authority,
}

impl Ca {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::init(folder.path(), "shop", Env::system()).unwrap();
        let authority = authority.settle(Duration::ZERO);
        Self { folder, authority }
    }

    fn of(&self, service: &str) -> Certificates {
        self.authority.issue(service, &[], HOUR).unwrap();
        let config = CertificatesConfig::in_folder(self.folder.path().join(service), "shop");
        Certificates::load(config, None, Env::system()).unwrap()
    }

    /// A certificate of these names and no others.
    fn signs(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> SingleCertAndKey {
        let root = std::fs::read_to_string(self.folder.path().join("root.pem")).unwrap();
        let (cert, key) = root.split_at(root.find("-----BEGIN PRIVATE KEY").unwrap());
        let issuer = KeyPair::from_pem(key).unwrap();
        let issuer = Issuer::from_ca_cert_pem(cert, issuer).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let names = names
            .iter()
            .map(|name| SanType::URI((*name).try_into().unwrap()));
        params.subject_alt_names = names.collect();
        change(&mut params);
        let chain = vec![params.signed_by(&key, &issuer).unwrap().der().clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        CertifiedKey::from_der(chain, key, &default_provider())
            .unwrap()
            .into()
    }

    /// A server that trusts this authority and shows something else than it should.
    fn server_with(&self, shown: SingleCertAndKey) -> ServerConfig {
        let mut config = ServerConfig::clone(&self.of("there").server_config(&[]).unwrap());
        config.cert_resolver = Arc::new(shown);
        config
    }

    fn client_with(&self, shown: Arc<dyn ResolvesClientCert>) -> TlsClient {
        let config = self.of("here").client_config("there", &[]).unwrap();
        let mut config = ClientConfig::clone(&config);
        config.client_auth_cert_resolver = shown;
        TlsClient::new(move |_, _| Ok(Arc::new(config.clone())))
    }
}

fn expired(params: &mut CertificateParams) {
    params.not_after = date_time_ymd(2020, 1, 1);
}

/// A client that shows nothing.
#[derive(Debug)]
struct Nothing;

impl ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Each caller by its own certificate.
fn client(certificates: impl Into<Vec<Certificates>>) -> TlsClient {
    let all = certificates.into();
    TlsClient::new(move |caller, target| {
        let mut all = all.iter();
        let own = all.find(|own| own.identity().service() == caller).unwrap();
        own.client_config(target, &[])
    })
}

/// A service with TLS that tells who asks, until dropped.
struct There {
    address: std::net::SocketAddr,
    refused: Arc<Mutex<Vec<rustls::Error>>>,
    _server: JoinSet<()>,
}

impl There {
    async fn with(config: &ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let told = |request: Request<Body>| async move {
            let peer = request.extensions().get::<Peer>();
            Json(peer.map(|peer| peer.name().to_string()))
        };
        let router = Router::new().route("/who", get(told));
        let router = layer(
            router,
            "there",
            Telemetry::new(Env::system()),
            Limits::default(),
        );
        let refused = Arc::<Mutex<Vec<_>>>::default();
        let noted = refused.clone();
        let tls = TlsServer::new(config).on_refusal(move |why| noted.lock().push(why.clone()));
        let server = serve_tls(listener, router, tls, std::future::pending());
        Self {
            address,
            refused,
            _server: JoinSet::from_iter([server]),
        }
    }
}

/// A network whose connections are made so.
fn network(tls: TlsClient, there: &There) -> Network {
    let env = Env::system();
    let network = Network::new(Telemetry::new(env.clone()), env);
    network.set_tls(tls);
    // The address says nothing of TLS: a network that has certificates uses no other way.
    let url = format!("http://{}", there.address);
    network.remote("there", &url, Responses::Plain).unwrap();
    network
}

async fn asks(network: &Network, caller: &'static str) -> trunkline_core::Result<Option<String>> {
    let context = Context::root(network.env());
    let client = Client::new(network.channel(caller, "there"), context);
    client.get("/who").send().await
}

#[tokio::test]
async fn each_caller_is_known_by_its_own_certificate() {
    let ca = Ca::new();
    let there = There::with(&ca.of("there").server_config(&[]).unwrap()).await;
    let network = network(client([ca.of("here"), ca.of("elsewhere")]), &there);
    for caller in ["here", "elsewhere", "here"] {
        let peer = asks(&network, caller).await.unwrap().unwrap();
        assert_eq!(peer, format!("spiffe://shop/{caller}"));
    }
}

#[tokio::test]
async fn a_service_that_can_not_prove_its_name_is_sent_nothing() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let there = ["spiffe://shop/there"];
    let untrusted = "certificate_untrusted";
    let another = "certificate_of_another";
    let cases = [
        (untrusted, theirs.signs(&there, |_| {})),
        (untrusted, ours.signs(&there, expired)),
        (another, ours.signs(&["spiffe://shop/elsewhere"], |_| {})),
        (another, ours.signs(&["spiffe://mall/there"], |_| {})),
        (another, ours.signs(&[], |_| {})),
        (
            another,
            ours.signs(&["spiffe://shop/there", "spiffe://shop/here"], |_| {}),
        ),
    ];
    for (code, shown) in cases {
        let there = There::with(&ours.server_with(shown)).await;
        let network = network(client([ours.of("here")]), &there);
        let error = asks(&network, "here").await.unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::Unavailable, Retry::Permanent)
        );
    }
}

#[tokio::test]
async fn a_client_that_can_not_prove_its_name_is_let_in_nowhere() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let there = There::with(&ours.of("there").server_config(&[]).unwrap()).await;
    let here = ["spiffe://shop/here"];
    let shown: [Arc<dyn ResolvesClientCert>; 5] = [
        Arc::new(Nothing),
        Arc::new(theirs.signs(&here, |_| {})),
        Arc::new(ours.signs(&here, expired)),
        Arc::new(ours.signs(&["spiffe://mall/here"], |_| {})),
        Arc::new(ours.signs(&[], |_| {})),
    ];
    for (at, shown) in shown.into_iter().enumerate() {
        let network = network(ours.client_with(shown), &there);
        let error = asks(&network, "here").await.unwrap_err();
        assert_eq!(error.code(), "certificate_refused", "{error:?}");
        assert_eq!(error.retry(), Retry::Permanent);
        let refused = there.refused.lock().clone();
        assert_eq!(refused.len(), at + 1, "{refused:?}");
    }
    assert_eq!(
        there.refused.lock()[0],
        rustls::Error::NoCertificatesPresented
    );
}

#[tokio::test]
async fn plain_and_secure_do_not_meet() {
    let ca = Ca::new();
    let there = There::with(&ca.of("there").server_config(&[]).unwrap()).await;
    let env = Env::system();
    let network = Network::new(Telemetry::new(env.clone()), env.clone());
    let client = Client::new(network.channel("here", "there"), Context::root(&env));
    let url = format!("http://{}", there.address);
    network.remote("there", &url, Responses::Plain).unwrap();
    let error = client.get("/who").send::<Value>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // Without certificates there is no such place.
    let url = format!("https://{}", there.address);
    let error = network.remote("there", &url, Responses::Plain);
    assert_eq!(error.unwrap_err().code(), "address_invalid");
    assert!(network.outside("theirs", "https://example.com").is_err());
}

#[tokio::test]
async fn a_secured_network_sends_nothing_in_the_clear() {
    let (mut plain, ca) = (JoinSet::new(), Ca::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    plain.spawn(crate::server::serve(
        listener,
        Router::new().fallback(|| async { "\"heard\"" }),
        std::future::pending(),
    ));
    let env = Env::system();
    let network = Network::new(Telemetry::new(env.clone()), env.clone());
    network.set_tls(client([ca.of("here")]));
    network.remote("there", &url, Responses::Plain).unwrap();
    let error = asks(&network, "here").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // What is outside has no certificate of ours.
    network.outside("theirs", &url).unwrap();
    let theirs = Client::new(network.channel("here", "theirs"), Context::root(&env));
    assert_eq!(theirs.get("/a").send::<String>().await.unwrap(), "heard");
}

#[tokio::test]
async fn what_is_reloaded_counts_for_the_next_connection_and_drops_none() {
    let mut ca = Ca::new();
    let (server, mine) = (ca.of("there"), ca.of("here"));
    let stranger = network(
        client([ca.of("late")]),
        &There::with(&server.server_config(&[]).unwrap()).await,
    );
    let there = There::with(&server.server_config(&[]).unwrap()).await;
    let here = network(client([mine.clone()]), &there);
    asks(&here, "here").await.unwrap();
    for step in [RotateStep::Begin, RotateStep::Switch, RotateStep::Finish] {
        ca.authority.rotate(step).unwrap();
        server.reload().unwrap();
        mine.reload().unwrap();
        // The connection that is open goes on.
        asks(&here, "here").await.unwrap();
    }
    // Who has not noticed is trusted no longer, and does not trust.
    stranger
        .remote(
            "there",
            &format!("https://{}", there.address),
            Responses::Plain,
        )
        .unwrap();
    let error = asks(&stranger, "late").await.unwrap_err();
    assert_eq!(error.code(), "certificate_untrusted");
    let renewed = network(client([mine]), &there);
    asks(&renewed, "here").await.unwrap();
}
