//! Connections with certificates: who is let in, and who is believed.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Request;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::task::JoinSet;

use super::*;
use crate::server::{Peer, TlsServer, serve_tls};
use crate::{ChainVerifier, TlsClient};

/// An authority, and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        Self { issuer, root }
    }

    fn signs(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let names = names
            .iter()
            .map(|name| SanType::URI((*name).try_into().unwrap()));
        params.subject_alt_names = names.collect();
        change(&mut params);
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        (vec![signed.der().clone()], key.into())
    }

    fn of(&self, service: &str) -> Identity {
        self.signs(&[&format!("spiffe://shop/{service}")], |_| {})
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        Arc::new(roots)
    }

    fn server(&self, (chain, key): Identity) -> ServerConfig {
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider.clone());
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(chain, key)
            .unwrap()
    }

    fn client(&self, identity: Option<Identity>) -> ClientConfig {
        let provider = Arc::new(default_provider());
        let verifier = ChainVerifier::new(self.roots(), provider.clone());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        }
    }
}

/// A service with TLS that tells who asks, until dropped.
struct There {
    address: std::net::SocketAddr,
    config: Arc<ArcSwap<ServerConfig>>,
    _server: JoinSet<()>,
}

impl There {
    async fn with(config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Arc::new(ArcSwap::from_pointee(config));
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
        let tls = TlsServer::new(config.clone());
        let server = serve_tls(listener, router, tls, std::future::pending());
        Self {
            address,
            config,
            _server: JoinSet::from_iter([server]),
        }
    }
}

/// A network whose connections have this configuration.
struct Here {
    network: Network,
    config: Arc<ArcSwap<ClientConfig>>,
}

impl Here {
    fn with(config: ClientConfig, there: &There) -> Self {
        let env = Env::system();
        let network = Network::new(Telemetry::new(env.clone()), env);
        let config = Arc::new(ArcSwap::from_pointee(config));
        network.set_tls(TlsClient::new(config.clone(), "shop"));
        let url = format!("https://{}", there.address);
        network.remote("there", &url, Responses::Plain).unwrap();
        Self { network, config }
    }

    async fn asks(&self) -> trunkline_core::Result<Option<String>> {
        let context = Context::root(self.network.env());
        let client = Client::new(self.network.channel("here", "there"), context);
        client.get("/who").send().await
    }
}

#[tokio::test]
async fn each_side_knows_the_other_by_its_certificate() {
    let authority = Authority::new();
    let there = There::with(authority.server(authority.of("there"))).await;
    let here = Here::with(authority.client(Some(authority.of("here"))), &there);
    for _ in 0..2 {
        let peer = here.asks().await.unwrap();
        assert_eq!(peer.as_deref(), Some("spiffe://shop/here"));
    }
}

#[tokio::test]
async fn a_service_that_can_not_prove_its_name_is_sent_nothing() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let cases = [
        ("certificate_untrusted", theirs.of("there")),
        (
            "certificate_untrusted",
            ours.signs(&["spiffe://shop/there"], expired),
        ),
        ("certificate_of_another", ours.of("elsewhere")),
        (
            "certificate_of_another",
            ours.signs(&["spiffe://mall/there"], |_| {}),
        ),
        ("certificate_of_another", ours.signs(&[], |_| {})),
        (
            "certificate_of_another",
            ours.signs(&["spiffe://shop/there", "spiffe://shop/here"], |_| {}),
        ),
    ];
    for (code, identity) in cases {
        let there = There::with(ours.server(identity)).await;
        let here = Here::with(ours.client(Some(ours.of("here"))), &there);
        let error = here.asks().await.unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::Unavailable, Retry::Permanent)
        );
    }
}

#[tokio::test]
async fn a_client_that_can_not_prove_its_name_is_let_in_nowhere() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let there = There::with(ours.server(ours.of("there"))).await;
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let identities = [
        None,
        Some(theirs.of("here")),
        Some(ours.signs(&["spiffe://shop/here"], expired)),
    ];
    for identity in identities {
        let here = Here::with(ours.client(identity), &there);
        let error = here.asks().await.unwrap_err();
        assert_eq!(error.code(), "certificate_refused", "{error:?}");
        assert_eq!(error.retry(), Retry::Permanent);
    }
}

#[tokio::test]
async fn plain_and_secure_do_not_meet() {
    let authority = Authority::new();
    let there = There::with(authority.server(authority.of("there"))).await;
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
async fn what_is_reloaded_counts_for_the_next_connection_and_drops_none() {
    let (old, new) = (Authority::new(), Authority::new());
    let there = There::with(old.server(old.of("there"))).await;
    let here = Here::with(old.client(Some(old.of("here"))), &there);
    here.asks().await.unwrap();
    there.config.store(Arc::new(new.server(new.of("there"))));
    // The connection that is open goes on.
    here.asks().await.unwrap();
    let stranger = Here::with(old.client(Some(old.of("here"))), &there);
    assert_eq!(
        stranger.asks().await.unwrap_err().code(),
        "certificate_untrusted"
    );
    stranger
        .config
        .store(Arc::new(new.client(Some(new.of("here")))));
    stranger.asks().await.unwrap();
}
