//! Partners by keys and groups: flat JSON in which everything names what it belongs to.

use super::{Place, Words, drive};

#[tokio::test]
async fn keys_groups_and_limits_of_partners() {
    let a = Place::start("a").await;
    let words = Words::new()
        .with("PORT_A", a.at.port())
        .with("UPSTREAM_A", a.at);
    let kit = words.gateway("partners.json").await;
    let (acme, umbrella) = ("apikey: acme-key-1\r\n", "X-Api-Key: umbrella-key-1\r\n");
    let crawler = format!("{acme}user-agent: EvilCrawler/1.0\r\n");
    let browser = format!("{acme}user-agent: Mozilla/5.0\r\n");
    let forged = format!("{umbrella}x-consumer-groups: gold\r\n");
    drive(
        &kit,
        &[
            (
                "GET any.example/invoices/3",
                "",
                "",
                401,
                &["code key_missing", "says www-authenticate"],
            ),
            (
                "GET any.example/invoices/3",
                "apikey: umbrella\r\n",
                "",
                401,
                &["code key_unknown"],
            ),
            (
                "GET any.example/invoices/3",
                &browser,
                "",
                200,
                &[
                    "uri /billing/invoices/3",
                    "got no apikey",
                    "got x-consumer-username: acme",
                    "got x-consumer-custom-id: 1001",
                    "says no x-ratelimit-limit-hour",
                ],
            ),
            (
                "GET any.example/invoices/3?a=1&apikey=acme-key-1",
                "",
                "",
                200,
                &["uri /billing/invoices/3?a=1"],
            ),
            (
                "GET any.example/invoices/3",
                &crawler,
                "",
                403,
                &["code bot_denied"],
            ),
            (
                "POST any.example/refunds/9",
                acme,
                "{}",
                200,
                &["uri /billing/9", "got x-consumer-groups: gold"],
            ),
            (
                "GET any.example/refunds/9",
                acme,
                "",
                405,
                &["says allow: POST"],
            ),
            // A group is not what the client says, and who is refused is not counted.
            (
                "POST any.example/refunds/9",
                &forged,
                "{}",
                403,
                &["code group_not_allowed"],
            ),
            (
                "GET any.example/invoices",
                umbrella,
                "",
                200,
                &["says x-ratelimit-remaining-hour: 1"],
            ),
            (
                "GET any.example/invoices",
                umbrella,
                "",
                200,
                &["says x-ratelimit-remaining-hour: 0", "got no x-api-key"],
            ),
            (
                "GET any.example/invoices",
                umbrella,
                "",
                429,
                &["says retry-after"],
            ),
            ("GET any.example/invoices", acme, "", 200, &["says x-by: a"]),
            (
                "GET any.example/soap",
                "",
                "",
                403,
                &["body {\"message\":\"not from here\"}", "says no x-by"],
            ),
            (
                "GET any.example/soap",
                "user-agent: EvilCrawler/2\r\n",
                "",
                403,
                &["code bot_denied"],
            ),
        ],
    )
    .await;
}
