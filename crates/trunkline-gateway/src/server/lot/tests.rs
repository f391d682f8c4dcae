use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use trunkline_core::Env;
use trunkline_telemetry::Telemetry;

use super::*;
use crate::{Config, Gateway};

fn gateway() -> Gateway {
    let env = Env::seeded(1);
    Gateway::alone(&Config::default(), Telemetry::disabled(env.clone()), env).unwrap()
}

/// A connection, and its other end.
async fn guest(gateway: &Gateway) -> (Guest, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).await;
    let (stream, remote) = listener.accept().await.unwrap();
    let guest = Guest {
        stream,
        remote,
        place: Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap(),
        open: Open::new(gateway),
        wait: Wait::new(Duration::from_secs(30), true),
    };
    (guest, far.unwrap())
}

#[test]
fn a_parked_connection_is_small() {
    assert_eq!(size_of::<Parked>(), 88);
}

#[tokio::test]
async fn who_says_something_is_fetched_and_who_cant_be_parked_is_given_back() {
    let gateway = gateway();
    let (lot, mut watcher) = Lot::new().unwrap();
    let (guest, mut far) = guest(&gateway).await;

    // The system does not watch a socket twice.
    let fd = guest.stream.as_raw_fd();
    let mut source = SourceFd(&fd);
    lot.registry
        .register(&mut source, Token(7), Interest::READABLE)
        .unwrap();
    let guest = lot.park(guest).unwrap().expect("it is given back");
    lot.registry.deregister(&mut source).unwrap();
    assert!(lot.is_empty());
    assert_eq!(gateway.connections_parked(), 0);

    let until = guest.wait.until;
    assert!(lot.park(guest).unwrap().is_none());
    assert_eq!(
        (gateway.connections_parked(), gateway.connections()),
        (1, 1)
    );
    far.write_all(b"something").await.unwrap();
    watcher.told().await.unwrap();
    let mut guest = lot.fetch(&watcher).pop().expect("it is told of");
    assert_eq!(guest.wait.until, until);
    let mut said = [0; 9];
    guest.stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"something");

    assert!(lot.park(guest).unwrap().is_none());
    let guest = lot.close().pop().expect("all are fetched");
    let guest = lot.park(guest).unwrap().expect("it is closed");
    assert_eq!(gateway.connections_parked(), 0);
    drop(guest);
    assert_eq!(gateway.connections(), 0);
}

#[tokio::test]
async fn a_sweep_closes_whose_time_is_over_and_a_lot_that_goes_closes_all() {
    let gateway = gateway();
    let (lot, _watcher) = Lot::new().unwrap();
    let (first, mut gone) = guest(&gateway).await;
    let (mut second, mut stays) = guest(&gateway).await;
    second.wait.until += Duration::from_secs(1);
    let until = first.wait.until;
    for guest in [first, second] {
        assert!(lot.park(guest).unwrap().is_none());
    }
    lot.sweep(until - Duration::from_millis(1));
    assert_eq!(gateway.connections_parked(), 2);
    lot.sweep(until);
    assert_eq!(
        (gateway.connections_parked(), gateway.connections()),
        (1, 1)
    );
    assert_eq!(gone.read(&mut [0]).await.unwrap(), 0);
    drop(lot);
    assert_eq!(
        (gateway.connections_parked(), gateway.connections()),
        (0, 0)
    );
    assert_eq!(stays.read(&mut [0]).await.unwrap(), 0);
}
