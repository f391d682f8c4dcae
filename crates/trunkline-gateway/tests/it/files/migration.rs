//! An old system behind a new face: format 2.1, expressions, versions by header, transformers, a cache and an end.

use super::{Place, Words, drive};

#[tokio::test]
async fn an_old_system_is_kept_behind_a_new_face() {
    let (a, b) = (Place::start("a").await, Place::start("b").await);
    let words = Words::new()
        .with("UPSTREAM_A", a.at)
        .with("UPSTREAM_B", b.at);
    let kit = words.gateway("migration.yml").await;
    let user = "cookie: a=1\r\nx-request-user: u1\r\nx-trace: t1\r\n";
    let (always, yes) = ("x-canary: always\r\n", "x-canary: yes\r\n");
    drive(
        &kit,
        &[
            (
                "GET old.example/v1/orders/12ab-3/lines/4?x=1",
                user,
                "",
                200,
                &[
                    "says x-by: a",
                    "uri /cgi/orderline/12ab-3?x=1&order=12ab-3&line=4",
                    "got x-legacy-user: u1",
                    "got x-old-trace: t1",
                    "got no x-trace",
                    "got no cookie",
                ],
            ),
            // Nothing to fill it with: the header stays away.
            (
                "GET old.example/v1/orders/12ab-3/lines/4",
                "",
                "",
                200,
                &["got no x-legacy-user"],
            ),
            // Only the whole path is a line of an order, and only GET.
            (
                "GET old.example/v1/orders/12ab-3/lines/4x",
                user,
                "",
                200,
                &["uri /app/12ab-3/lines/4x", "got cookie: a=1"],
            ),
            (
                "PUT old.example/v1/orders/12ab-3/lines/4",
                user,
                "{}",
                200,
                &["uri /app/12ab-3/lines/4"],
            ),
            (
                "GET old.example/v1/orders",
                always,
                "",
                200,
                &[
                    "says x-by: b",
                    "uri /",
                    "says x-served-by: v2",
                    "says no x-internal",
                    "says x-count: 3",
                    "says no x-total-count",
                ],
            ),
            (
                "GET old.example/v1/orders/1/lines/2",
                yes,
                "",
                200,
                &["says x-by: b", "uri /1/lines/2"],
            ),
            (
                "GET old.example/v1/orders",
                "x-canary: no\r\n",
                "",
                200,
                &[
                    "says x-by: a",
                    "says x-internal: 10.0.0.1",
                    "says no x-served-by",
                ],
            ),
            (
                "GET old.example/currencies/eur",
                "",
                "",
                200,
                &["uri /reference/eur", "says x-cache-status: Miss"],
            ),
            (
                "GET old.example/currencies/eur",
                "",
                "",
                200,
                &[
                    "uri /reference/eur",
                    "says x-cache-status: Hit",
                    "says age: 0",
                ],
            ),
            (
                "POST old.example/currencies/eur",
                "",
                "{}",
                200,
                &["says x-cache-status: Bypass"],
            ),
            (
                "POST old.example/soap",
                "",
                "<ask/>",
                410,
                &[
                    "body <gone/>",
                    "says content-type: text/xml; charset=utf-8",
                    "says no x-by",
                ],
            ),
        ],
    )
    .await;
    kit.clock.advance(std::time::Duration::from_secs(61));
    drive(
        &kit,
        &[(
            "GET old.example/currencies/eur",
            "",
            "",
            200,
            &["says x-cache-status: Miss"],
        )],
    )
    .await;
}
