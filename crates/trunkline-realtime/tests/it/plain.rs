//! A namespace on a plain WebSocket, beside the same one by Socket.IO.

use std::path::Path;
use std::time::Duration;

use trunkline_core::Env;
use trunkline_realtime::{Limits, Namespace, Realtime};
use trunkline_testkit::node;

use crate::server::Server;

async fn plays(server: &Server, scenario: &str) {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/plain.cjs"));
    let mut node = node::script(file);
    node.args([scenario, &server.url]);
    let output = tokio::task::spawn_blocking(move || node.output().unwrap());
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{scenario}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn players_by_both_means_are_in_one_room() {
    plays(&Server::start().await, "plays").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_comes_back() {
    plays(&Server::start().await, "comes_back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_frame_ends_the_connection_and_what_is_refused_is_told() {
    plays(&Server::start().await, "refused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_pings_stays() {
    let mut limits = Limits::default();
    limits.ping_every = Duration::from_millis(50);
    limits.ping_within = Duration::from_millis(400);
    plays(&Server::with(limits).await, "stays").await;
}

#[test]
fn a_path_that_can_not_be_is_refused() {
    let open = |paths: &[&'static str]| {
        let names = ["/a", "/b"].into_iter().zip(paths);
        let spaces = names.map(|(name, path)| Namespace::at(name).plain_at(path));
        Realtime::new(spaces, Limits::default(), Env::system()).map(drop)
    };
    for wrong in ["ws", "/ws/{game}", "/socket.io/", "/ws?x", ""] {
        assert!(open(&[wrong]).is_err(), "{wrong}");
    }
    assert!(open(&["/ws", "/ws"]).is_err());
    assert!(open(&["/ws/a", "/ws/b"]).is_ok());
}
