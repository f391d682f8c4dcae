//! What `deck` writes of a running Kong: every setting of every plugin, and nothing where there is none.

use super::{Place, Words, drive};

#[tokio::test]
async fn a_dump_with_every_setting_is_a_file() {
    let a = Place::start("a").await;
    let words = Words::new().with("PORT_A", a.at.port());
    let kit = words.gateway("dump.yml").await;
    let key = "apikey: k1\r\n";
    drive(
        &kit,
        &[
            (
                "GET shop.example/r1/x",
                key,
                "",
                200,
                &[
                    "uri /base/x",
                    "got x-a: 1",
                    "got x-consumer-groups: g1",
                    "says x-b: 1",
                    "says x-cache-status: Miss",
                    "says x-ratelimit-limit-minute: 100",
                    "says access-control-allow-origin: *",
                ],
            ),
            ("GET shop.example/r1/x", "", "", 401, &["code key_missing"]),
            ("GET shop.example/other", key, "", 404, &[]),
        ],
    )
    .await;
}
