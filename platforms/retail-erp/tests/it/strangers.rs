//! Somebody who comes to a service's own address with certificates and tokens, good or not.

use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trunkline::call::TlsClient;
use trunkline::telemetry::Telemetry;
use trunkline::{Client, Context, Env, Network, Responses};
use trunkline_security::{
    Authority, Certificates, CertificatesConfig, Permissions, SERVICE_TOKEN, ServiceTokens,
    TokenKeys, TokenKeysPolicy,
};

const DOMAIN: &str = "retail-erp";

pub(crate) struct Stranger {
    name: &'static str,
    certificates: Certificates,
    tokens: Option<ServiceTokens>,
}

impl Stranger {
    /// Somebody who has a service's certificate.
    pub(crate) fn of(certs: &Path, name: &'static str) -> Self {
        Self {
            name,
            certificates: load(&certs.join(name)),
            tokens: None,
        }
    }

    /// Somebody whose certificate another CA made, for the same name.
    pub(crate) fn of_another_ca(certs: &Path, name: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::init(folder.path(), DOMAIN, Env::system()).unwrap();
        let lifetime = Authority::LEAF_LIFETIME;
        authority.issue(name, &[], lifetime).unwrap();
        // It trusts ours, so that it gets as far as to show its own.
        let roots = folder.path().join(name).join("ca.pem");
        let ours = std::fs::read_to_string(certs.join(name).join("ca.pem")).unwrap();
        let both = std::fs::read_to_string(&roots).unwrap() + &ours;
        std::fs::write(&roots, both).unwrap();
        Self {
            name,
            certificates: load(&folder.path().join(name)),
            tokens: None,
        }
    }

    /// The same with the service's keys too, by which it grants itself all of everybody.
    pub(crate) fn signing(self, data: &Path) -> Self {
        let folder = data.join("identity").join(self.name);
        let keys = TokenKeys::open(folder, TokenKeysPolicy::default(), Env::system()).unwrap();
        let permissions = Permissions::new().allow(self.name, "payment-service");
        let tokens = ServiceTokens::new(self.name, self.name, keys, permissions);
        Self {
            tokens: Some(tokens),
            ..self
        }
    }

    /// The status and the code that it gets; 0 where it gets no answer.
    pub(crate) async fn asks(&self, target: &'static str, at: SocketAddr) -> (u16, String) {
        let env = Env::system();
        let network = Network::new(Telemetry::disabled(env.clone()), env.clone());
        let own = self.certificates.clone();
        network.set_tls(TlsClient::new(move |_, target| {
            own.client_config(target, &[])
        }));
        let url = format!("https://{at}");
        network.remote(target, &url, Responses::Plain).unwrap();
        let mut context = Context::root(&env);
        context.correlation_id = "stranger-1".into();
        let client = Client::new(network.channel(self.name, target), context);
        let mut request = client.get("/api/payments/none");
        if let Some(tokens) = &self.tokens {
            let name = SERVICE_TOKEN.parse().unwrap();
            request = request.header(name, &tokens.token(target).unwrap());
        }
        let error = request.send::<serde_json::Value>().await.unwrap_err();
        let status = trunkline::call::problem::status(&error).as_u16();
        let unreached = error.kind() == trunkline::ErrorKind::Unavailable;
        (if unreached { 0 } else { status }, error.code().to_owned())
    }

    /// Whether somebody who speaks plain HTTP gets no answer.
    pub(crate) async fn gets_nothing_in_the_clear(door: SocketAddr) -> bool {
        let mut plain = TcpStream::connect(door).await.unwrap();
        let request = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        plain.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // It may be reset before all of it was read.
        drop(plain.read_to_end(&mut answer).await);
        !String::from_utf8_lossy(&answer).contains("HTTP/1")
    }
}

fn load(folder: &Path) -> Certificates {
    let config = CertificatesConfig::in_folder(folder, DOMAIN);
    Certificates::load(config, None, Env::system()).unwrap()
}
