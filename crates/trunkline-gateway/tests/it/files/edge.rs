//! The edge of a platform: TLS by name, mTLS to a service, gRPC for programs and pages, WebSocket.

use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use trunkline_testproto::stock::Line;

use super::{Place, Row, Words, ask, drive, holds, written};
use crate::grpc::{message, room};
use crate::h2;
use crate::kit::{Answer, Kit, read_all, read_until};
use crate::tls::{Own, own, try_tls};
use crate::upstream_tls::Ca;
use crate::websocket;

struct Edge {
    kit: Kit,
    shop: Own,
    partners: Own,
    _places: [Place; 5],
}

async fn edge() -> Edge {
    let (a, b) = (Place::start("a").await, Place::start("b").await);
    let ca = Ca::new();
    let payments = crate::kit::echo();
    let payments =
        Place::serving(payments, Some(ca.server("localhost", true, &["http/1.1"]))).await;
    let (stock, chat) = (
        Place::serving(room(), None).await,
        Place::serving(websocket::here(), None).await,
    );
    let (cert, key) = ca.signs("gateway.example");
    let (shop, partners) = (
        own(&["shop.example", "web.shop.example", "stock.shop.example"]),
        own(&["*.partners.example"]),
    );
    let words = Words::new()
        .with("UPSTREAM_A", a.at)
        .with("UPSTREAM_B", b.at)
        .with("UPSTREAM_CHAT", chat.at)
        .with("PORT_TLS", payments.at.port())
        .with("PORT_GRPC", stock.at.port())
        .pem("CA_CERT", &ca.pem)
        .pem("CLIENT_CERT", &cert)
        .pem("CLIENT_KEY", &key)
        .pem("SHOP_CERT", &shop.pem)
        .pem("SHOP_KEY", &shop.key)
        .pem("PARTNERS_CERT", &partners.pem)
        .pem("PARTNERS_KEY", &partners.key);
    Edge {
        kit: words.gateway("edge.yml").await,
        shop,
        partners,
        _places: [a, b, payments, stock, chat],
    }
}

impl Edge {
    /// A request with TLS to whom this name leads, trusting this certificate alone.
    async fn ask(
        &self,
        (own, sni): (&Own, &str),
        line: &str,
        headers: &str,
        body: &[u8],
    ) -> Answer {
        let mut stream = try_tls(&self.kit, own, sni, "http/1.1").await.unwrap();
        let text = String::from_utf8_lossy(body);
        stream
            .write_all(written(line, headers, &text).as_bytes())
            .await
            .unwrap();
        Answer::parse(&read_all(&mut stream).await)
    }
}

#[tokio::test]
async fn names_lead_to_certificates_and_services() {
    let edge = edge().await;
    let (shop, partners) = (
        (&edge.shop, "shop.example"),
        (&edge.partners, "api.partners.example"),
    );
    let other = (&edge.partners, "eu.partners.example");
    let rows: [((&Own, &str), Row<'_>); 6] = [
        (
            shop,
            (
                "GET shop.example/cart",
                "",
                "",
                200,
                &[
                    "says x-by: a",
                    "uri /cart",
                    "got host: shop.example",
                    "got x-forwarded-proto: https",
                ],
            ),
        ),
        // The service is shown the gateway's certificate, and has shown its own.
        (
            shop,
            (
                "POST shop.example/pay/7",
                "",
                "{}",
                200,
                &["uri /v1/7", "says no x-by"],
            ),
        ),
        // A service that asks for a certificate and is shown none is not reached.
        (
            shop,
            (
                "GET shop.example/unproven",
                "",
                "",
                502,
                &["code upstream_unreachable"],
            ),
        ),
        (
            partners,
            (
                "GET api.partners.example/x",
                "",
                "",
                200,
                &["says x-by: b", "uri /partners/x"],
            ),
        ),
        // The same certificate, and another name.
        (
            other,
            (
                "GET eu.partners.example/x",
                "",
                "",
                404,
                &["code route_unknown"],
            ),
        ),
        // Whose certificate was not shown is not answered for.
        (partners, ("GET shop.example/cart", "", "", 421, &[])),
    ];
    for (whom, row) in rows {
        let answer = edge.ask(whom, row.0, row.1, row.2.as_bytes()).await;
        assert_eq!(answer.status, row.3, "{}: {answer:#?}", row.0);
        for said in row.4 {
            assert!(holds(&answer, said), "{said:?} of {}: {answer:#?}", row.0);
        }
    }
    assert!(
        try_tls(&edge.kit, &edge.shop, "eu.partners.example", "http/1.1")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn who_comes_without_tls_is_led_to_it() {
    let edge = edge().await;
    drive(
        &edge.kit,
        &[
            (
                "GET shop.example/cart?a=1",
                "",
                "",
                301,
                &["says location: https://shop.example/cart?a=1"],
            ),
            ("POST shop.example/pay/7", "", "{}", 426, &["says upgrade"]),
            // Without TLS there is no name to be asked for.
            ("GET shop.example/unproven", "", "", 502, &[]),
        ],
    )
    .await;
}

fn tea() -> Line {
    Line {
        sku: "tea".to_owned(),
        quantity: 2,
        padding: Vec::new(),
    }
}

#[tokio::test]
async fn programs_call_grpc_with_tls_and_without() {
    let edge = edge().await;
    let tls = try_tls(&edge.kit, &edge.shop, "stock.shop.example", "h2")
        .await
        .unwrap();
    let (mut secured, _drives) = h2::client(tls).await;
    let (mut plain, _driven) = h2::client(edge.kit.connect().await).await;
    for (scheme, sender) in [("https", &mut secured), ("http", &mut plain)] {
        let request = Request::post(format!(
            "{scheme}://stock.shop.example/stock.v1.Stock/Reserve"
        ))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::from(message(&tea())))
        .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.unwrap();
        let trailers = body.trailers().unwrap().clone();
        assert_eq!(trailers["grpc-status"], "0", "{scheme}");
        let said = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        assert!(
            said.contains("tea-2") && said.contains("x-forwarded-proto"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn pages_call_grpc_in_http() {
    let edge = edge().await;
    let headers = "content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n";
    let (body, web) = (message(&tea()), (&edge.shop, "web.shop.example"));
    let line = "POST web.shop.example/stock.v1.Stock/Watch";
    let secured = edge.ask(web, line, headers, &body).await;
    let plain = ask(&edge.kit, line, headers, &String::from_utf8_lossy(&body)).await;
    for answer in [secured, plain] {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(holds(
            &answer,
            "says content-type: application/grpc-web+proto"
        ));
        assert!(holds(
            &answer,
            "says access-control-allow-origin: https://shop.example"
        ));
        assert!(answer.body.contains("grpc-status:0"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_chat_is_joined_with_tls_and_without() {
    let edge = edge().await;
    let ask = websocket::ASK.replace("host: shop", "host: shop.example");
    let mut secured = try_tls(&edge.kit, &edge.shop, "shop.example", "http/1.1")
        .await
        .unwrap();
    secured.write_all(ask.as_bytes()).await.unwrap();
    let said = read_until(&mut secured, "\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 101 "), "{said}");
    secured.write_all(b"hello").await.unwrap();
    read_until(&mut secured, "hello").await;
    let mut plain = edge.kit.connect().await;
    plain.write_all(ask.as_bytes()).await.unwrap();
    let said = read_until(&mut plain, "\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 101 "), "{said}");
    plain.write_all(b"hello").await.unwrap();
    read_until(&mut plain, "hello").await;
}
