use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use trunkline_gateway::{Limits, Route};

use crate::kit::{config, echo, gated, read_all, read_until, start_with};

const REQUEST: &[u8] = b"GET /api HTTP/1.1\r\nhost: h\r\n\r\n";

#[tokio::test]
async fn a_request_under_way_gets_its_answer() {
    let (router, began, go_on) = gated();
    let mut kit = start_with(
        config([Route::new("api", "/api")]),
        router,
        Limits::default(),
    )
    .await;
    let mut stream = kit.connect().await;
    stream.write_all(REQUEST).await.unwrap();
    began.acquire().await.unwrap().forget();
    kit.begin_stop();
    go_on.add_permits(1);
    let said = read_all(&mut stream).await;
    assert!(
        said.starts_with("HTTP/1.1 200") && said.ends_with("done"),
        "{said}"
    );
    assert!(said.contains("connection: close"), "{said}");
    kit.stopped().await;
    assert!(TcpStream::connect(kit.address).await.is_err());
}

#[tokio::test]
async fn an_idle_connection_may_still_ask_and_then_ends() {
    let mut kit = start_with(
        config([Route::new("api", "/api")]),
        echo(),
        Limits::default(),
    )
    .await;
    let mut asks = kit.connect().await;
    let mut silent = kit.connect().await;
    for stream in [&mut asks, &mut silent] {
        stream.write_all(REQUEST).await.unwrap();
        read_until(stream, "\"uri\"").await;
    }
    kit.begin_stop();
    asks.write_all(REQUEST).await.unwrap();
    let said = read_all(&mut asks).await;
    assert!(
        said.starts_with("HTTP/1.1 200") && said.contains("connection: close"),
        "{said}"
    );
    assert_eq!(read_all(&mut silent).await, "");
    kit.stopped().await;
    assert_eq!(kit.gateway.connections(), 0);
}

/// Asks on one connection after the other; returns the answers, or what went wrong.
async fn ask(
    address: std::net::SocketAddr,
    stop: &AtomicBool,
    answered: &AtomicUsize,
) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        // Not being let in any more is no loss: nothing was asked.
        let Ok(mut stream) = TcpStream::connect(address).await else {
            return Ok(());
        };
        loop {
            stream
                .write_all(REQUEST)
                .await
                .map_err(|error| format!("write: {error}"))?;
            let mut said = Vec::new();
            let mut piece = [0; 4096];
            while !said.ends_with(b"}") {
                let read = stream
                    .read(&mut piece)
                    .await
                    .map_err(|error| format!("read: {error}"))?;
                if read == 0 {
                    return Err("closed without an answer".to_owned());
                }
                said.extend_from_slice(&piece[..read]);
            }
            answered.fetch_add(1, Ordering::Relaxed);
            let said = String::from_utf8_lossy(&said).into_owned();
            if !said.starts_with("HTTP/1.1 200") {
                return Err(said);
            }
            if said.contains("connection: close") {
                break;
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_loses_no_request() {
    for _ in 0..5 {
        let mut kit = start_with(
            config([Route::new("api", "/api")]),
            echo(),
            Limits::default(),
        )
        .await;
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..32 {
            let (stop, answered, address) = (stop.clone(), answered.clone(), kit.address);
            clients.spawn(async move { ask(address, &stop, &answered).await });
        }
        while answered.load(Ordering::Relaxed) < 500 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        kit.begin_stop();
        kit.stopped().await;
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = clients.join_next().await {
            assert_eq!(ended.unwrap(), Ok(()));
        }
    }
}
