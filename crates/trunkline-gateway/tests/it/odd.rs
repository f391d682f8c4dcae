//! Requests that a proxy must not pass on as they are.

use trunkline_gateway::{Limits, Route};

use crate::kit::{config, start};

#[tokio::test]
async fn a_request_names_exactly_one_host() {
    let kit = start(config([Route::new("api", "/api")])).await;
    for headers in [
        "",
        "host: a\r\nhost: a\r\n",
        "host: a\r\nhost: b\r\n",
        "host: \r\n",
        "host: user@a\r\n",
        "host: a b\r\n",
        "host: a/b\r\n",
    ] {
        let said = kit
            .raw(&format!("GET /api HTTP/1.1\r\n{headers}\r\n"))
            .await;
        assert!(said.starts_with("HTTP/1.1 400 "), "{headers:?}: {said}");
        assert!(said.contains("request_malformed"), "{headers:?}: {said}");
    }
    let said = kit
        .raw("GET http://b/api HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    assert!(said.contains("request_malformed"), "{said}");
    let same = kit.send("GET http://SHOP/api", "", "").await;
    assert_eq!(same.json()["uri"], "/");
}

#[tokio::test]
async fn tunnels_and_stars_are_refused() {
    let kit = start(config([Route::new("all", "/")])).await;
    let said = kit
        .raw("CONNECT shop:443 HTTP/1.1\r\nhost: shop:443\r\nconnection: close\r\n\r\n")
        .await;
    assert!(
        said.starts_with("HTTP/1.1 501 ") && said.contains("connect_unsupported"),
        "{said}"
    );
    kit.send("OPTIONS *", "", "")
        .await
        .is_problem(400, "path_invalid");
}

/// Counts the answers on a connection: a smuggled request would be answered too.
fn answers(said: &str) -> usize {
    said.matches("HTTP/1.1 ").count()
}

#[tokio::test]
async fn nothing_is_smuggled_in_a_body() {
    let kit = start(config([Route::new("api", "/api").keep_path()])).await;
    let smuggled = "GET /api/smuggled HTTP/1.1\r\nhost: h\r\n\r\n";
    for framing in [
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 500\r\n",
    ] {
        let request = format!("POST /api HTTP/1.1\r\nhost: h\r\n{framing}\r\n0\r\n\r\n{smuggled}");
        let said = kit.raw(&request).await;
        assert_eq!(answers(&said), 1, "{framing:?}: {said}");
        assert!(!said.contains("/api/smuggled"), "{framing:?}: {said}");
        assert!(
            !said.contains("content-length\",\"5"),
            "the service was told a length: {said}"
        );
    }
    for framing in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: +5\r\n",
        "content-length: -1\r\n",
        "content-length: 0x5\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding : chunked\r\n",
    ] {
        let request = format!("POST /api HTTP/1.1\r\nhost: h\r\n{framing}\r\n0\r\n\r\n{smuggled}");
        let said = kit.raw(&request).await;
        assert!(said.starts_with("HTTP/1.1 400 "), "{framing:?}: {said}");
        assert_eq!(answers(&said), 1, "{framing:?}: {said}");
    }
}

#[tokio::test]
async fn what_holds_for_one_connection_does_not_go_on() {
    let kit = start(config([Route::new("api", "/api")])).await;
    let headers = "connection: x-secret\r\nx-secret: 1\r\nkeep-alive: timeout=9\r\nproxy-authorization: Basic x\r\nproxy-connection: keep-alive\r\nte: trailers, deflate\r\nupgrade: websocket\r\n";
    let answer = kit.send("GET /api", headers, "").await;
    for name in [
        "connection",
        "x-secret",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "upgrade",
        "host",
    ] {
        assert!(answer.got(name).is_empty(), "{name}: {answer:?}");
    }
    assert_eq!(answer.got("te"), ["trailers"]);
}

#[tokio::test]
async fn bodies_that_clients_break_off_are_no_fault_of_the_service() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async { axum::serve(listener, crate::kit::echo()).await.unwrap() };
    let ask = async {
        let routes = config([Route::new("api", "/api")]);
        let kit = crate::kit::start_at(routes, address, Limits::default()).await;
        let chunked = "POST /api HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\nno chunk";
        for _ in 0..100 {
            let said = kit.raw(chunked).await;
            assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
        }
        // Many of them open no circuit breaker.
        assert_eq!(kit.get("/api").await.status, 200);
    };
    tokio::select! {
        () = serve => {}
        () = ask => {}
    }
}

#[tokio::test]
async fn methods_and_codings_that_could_be_read_otherwise_are_refused() {
    let kit = start(config([Route::new("all", "/")])).await;
    for (request, status) in [
        ("TRACE /a HTTP/1.1\r\nhost: h\r\n", 405),
        ("get /a HTTP/1.1\r\nhost: h\r\n", 400),
        (
            "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: gzip, chunked\r\n",
            501,
        ),
        (
            "POST /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            501,
        ),
    ] {
        let said = kit
            .raw(&format!("{request}connection: close\r\n\r\n0\r\n\r\n"))
            .await;
        let expected = format!("HTTP/1.1 {status} ");
        assert!(said.starts_with(&expected), "{request}: {said}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_the_next_client_is_served() {
    let kit = start(config([Route::new("api", "/api")])).await;
    for bytes in [
        "\u{16}\u{3}\u{1} tls hello",
        "GET /api HTTP/9.9\r\n\r\n",
        "GET  /api HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /api HTTP/1.1\r\nbad header\r\n\r\n",
        "GET /api HTTP/1.1\r\nhost: h\r\nx: a\0b\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: h\r\n\r\n",
    ] {
        let said = kit.raw(bytes).await;
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 400 "),
            "{bytes:?}: {said}"
        );
    }
    assert_eq!(kit.get("/api").await.status, 200);
}
