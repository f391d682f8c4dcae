//! Who is let in, in process and over TCP.

use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use trunkline_core::{ByteString, Result};

use super::*;
use crate::server::{Admission, Incoming, guarded_layer};

/// Lets `here` use one operation, and notes who asks for what.
#[derive(Default)]
struct Door(Mutex<Vec<String>>);

impl Door {
    fn decide(&self, who: &str, call: &Incoming<'_>) -> Result<()> {
        self.0.lock().push(format!("{who}: {}", call.operation));
        if who == "here" && call.operation == "GET /items/{id}" {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::PermissionDenied,
            "not_you",
            "somebody else may",
        ))
    }
}

impl Admission for Door {
    fn admit_caller(&self, caller: &ByteString, call: &Incoming<'_>) -> Result<()> {
        self.decide(caller, call)
    }

    fn admit_stranger<'a>(&'a self, call: Incoming<'a>) -> BoxFuture<'a, Result<()>> {
        let who = call.headers.get("x-who").map(|who| who.to_str().unwrap());
        Box::pin(async move { self.decide(who.unwrap_or("nobody"), &call) })
    }
}

fn guarded(door: &Arc<Door>) -> Router {
    let telemetry = Telemetry::new(Env::system());
    let routes = Router::new().route("/items/{id}", get(|| async { "\"there\"" }));
    guarded_layer(routes, "there", telemetry, Limits::default(), door.clone())
}

async fn code(network: &Network, caller: &'static str, path: &str) -> String {
    let client = Client::new(
        network.channel(caller, "there"),
        Context::root(network.env()),
    );
    // In process a header says nothing: whoever calls can't pretend to be another.
    let sent = client
        .get(path)
        .header(http::HeaderName::from_static("x-who"), "here")
        .send::<String>();
    sent.await.unwrap_or_else(|error| error.code().to_owned())
}

#[tokio::test]
async fn a_handler_is_reached_by_those_alone_who_are_let_in() {
    let env = Env::system();
    let door = Arc::new(Door::default());
    let network = Network::new(Telemetry::new(env.clone()), env);
    network.mount("there", guarded(&door), Responses::Plain);
    assert_eq!(code(&network, "here", "/items/7").await, "there");
    assert_eq!(code(&network, "elsewhere", "/items/7").await, "not_you");
    assert_eq!(code(&network, "here", "/nothing").await, "not_you");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let _server = JoinSet::from_iter([serve(listener, guarded(&door), std::future::pending())]);
    network.remote("there", &url, Responses::Plain).unwrap();
    assert_eq!(code(&network, "elsewhere", "/items/7").await, "there");
    let said = [
        "here: GET /items/{id}",
        "elsewhere: GET /items/{id}",
        "here: unmatched",
        "here: GET /items/{id}",
    ];
    assert_eq!(*door.0.lock(), said);
    network.unmount(&"there".into());
}
