//! Calls of gRPC between processes that prove to each other who they are.

use serde_json::json;
use tonic::Code;
use trunkline_call::{Client, Network, Responses, TlsClient};
use trunkline_core::{Context, Env};
use trunkline_security::{
    Certificates, Permissions, SERVICE_TOKEN, ServiceTokens, TokenKeys, TokenKeysPolicy,
};
use trunkline_service::{Platform, Service};
use trunkline_telemetry::Telemetry;
use trunkline_testkit::free_port;
use trunkline_testproto::stock::stock_client::StockClient;

use super::shop::{DEVELOPMENT, config, load_of, refusals};
use crate::ask::Ask;
use crate::grpc::room::{line, platform};

/// The goods, and somebody who may look and no more.
fn goods() -> Platform {
    let visitor = Service::new("visitor").calls_operation("room", "stock.v1.Stock/Look");
    platform().service(visitor)
}

#[tokio::test]
async fn a_method_is_called_by_those_who_declare_it() {
    let folder = tempfile::tempdir().unwrap();
    let text = DEVELOPMENT.replace("{folder}", &folder.path().display().to_string());
    let ports = ["room", "clerk"].map(|name| (name, free_port().unwrap()));
    let part = async |own: &str| {
        let places = ports.map(|(name, port)| match name == own {
            true => format!("[service.{name}]\nlisten = \"127.0.0.1:{port}\"\n"),
            false => format!("[service.{name}]\nurl = \"http://127.0.0.1:{port}\"\n"),
        });
        let visitor = "[service.visitor]\nlisten = \"127.0.0.1:0\"\n";
        let text = text.clone() + &places.concat() + visitor;
        let config = config(&folder.path().join(own), &text);
        goods().start(config).await.unwrap()
    };
    let (room, clerk) = (part("room").await, part("clerk").await);
    let placed = Ask::new(clerk.network().clone(), "clerk").post("/orders", json!("oats"));
    assert_eq!(placed.await.status, 200);

    let certs = folder.path().join("certs");
    let keys = |name: &str| {
        let keys = folder.path().join("identity").join(name);
        TokenKeys::open(keys, TokenKeysPolicy::default(), Env::system()).unwrap()
    };
    let authority = trunkline_security::Authority::open(&certs, Env::system()).unwrap();
    let domain = authority.overview().unwrap().trust_domain;
    assert_eq!(domain, "goods");
    let own = load_of(&certs, "visitor", "goods");
    let url = format!("https://{}", room.service_address("room").unwrap());
    let network = network(own, &url);
    let code = async |permissions: Option<Permissions>| {
        let channel = network.channel("visitor", "room").bare();
        let mut stock =
            StockClient::new(Client::new(channel, Context::root(&Env::system())).grpc());
        let mut request = tonic::Request::new(line("oats", 1));
        if let Some(permissions) = permissions {
            let keys = keys("visitor");
            let tokens = ServiceTokens::new("visitor", "visitor", keys, permissions);
            let token = tokens.token("room").unwrap();
            request
                .metadata_mut()
                .insert(SERVICE_TOKEN, token.parse().unwrap());
        }
        stock
            .reserve(request)
            .await
            .map_or_else(|status| status.code(), |_| Code::Ok)
    };
    assert_eq!(code(None).await, Code::Unauthenticated);
    let declared = goods().permissions();
    assert_eq!(code(Some(declared)).await, Code::PermissionDenied);
    // What it grants itself, nobody else has declared.
    let bold = Permissions::new().allow("visitor", "room");
    assert_eq!(code(Some(bold)).await, Code::PermissionDenied);
    for running in [clerk, room] {
        running.shutdown().await;
    }
    let object = "room stock.v1.Stock/Reserve refused";
    assert_eq!(
        refusals(&folder.path().join("room/data"), "room").await,
        [
            format!("visitor call {object} token_missing"),
            format!("visitor call {object} call_not_permitted"),
            format!("visitor call {object} call_not_permitted"),
        ]
    );
}

fn network(own: Certificates, url: &str) -> Network {
    let env = Env::system();
    let network = Network::new(Telemetry::disabled(env.clone()), env);
    network.set_tls(TlsClient::new(move |_, target| {
        own.client_config(target, &[])
    }));
    network.remote("room", url, Responses::Plain).unwrap();
    network
}
