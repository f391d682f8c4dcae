//! The storefront's own file: users with tokens, limits, browsers, answers that are kept.

use trunkline_core::Env;
use trunkline_gateway::{Config, Gateway, Limits, Means};
use trunkline_telemetry::Telemetry;

use super::{Place, Words, ask, drive, read};
use crate::kit::{Kit, echo, start_of};

/// A gateway that can verify the tokens of users.
pub(super) async fn gateway(config: &Config) -> Kit {
    start_of(config.clone(), echo(), Limits::default(), Means::from).await
}

#[tokio::test]
async fn it_drives_a_gateway_as_it_stands() {
    let (users, products) = (Place::start("users").await, Place::start("products").await);
    let words = Words::new()
        .with("user-service:3001", users.at)
        .with("product-service:3002", products.at);
    let kit = gateway(&read("seed.yml", &words.text("seed.yml"))).await;
    let ann = kit.bearer("ann");
    let origin = "origin: https://any.example\r\n";
    let asks = format!("{origin}access-control-request-method: GET\r\n");
    drive(
        &kit,
        &[
            (
                "GET shop/api/users/7",
                "",
                "",
                401,
                &["says www-authenticate"],
            ),
            (
                "GET shop/api/users/7",
                &ann,
                "",
                200,
                &[
                    "says x-by: users",
                    "uri /7",
                    "got x-user-id: ann",
                    "says x-ratelimit-remaining-minute: 99",
                ],
            ),
            (
                "DELETE shop/api/users/7",
                &ann,
                "",
                200,
                &["says x-by: users"],
            ),
            ("PATCH shop/api/users/7", &ann, "", 405, &["says allow"]),
            (
                "OPTIONS shop/api/products/1",
                &asks,
                "",
                204,
                &[
                    "says access-control-allow-origin: *",
                    "says access-control-allow-methods",
                ],
            ),
            (
                "GET shop/api/products/1",
                origin,
                "",
                200,
                &[
                    "says x-by: products",
                    "says x-cache-status: Miss",
                    "says access-control-allow-origin: *",
                ],
            ),
            (
                "GET shop/api/products/1",
                origin,
                "",
                200,
                &["says x-cache-status: Hit", "uri /1"],
            ),
            (
                "POST shop/api/products",
                "",
                "{}",
                200,
                &["says x-cache-status: Bypass"],
            ),
            ("GET shop/api/nothing", "", "", 404, &["code route_unknown"]),
        ],
    )
    .await;
    // Two of ann's hundred are used.
    for _ in 0..98 {
        assert_eq!(ask(&kit, "GET shop/api/users", &ann, "").await.status, 200);
    }
    let bob = kit.bearer("bob");
    drive(
        &kit,
        &[
            (
                "GET shop/api/users",
                &ann,
                "",
                429,
                &["says retry-after", "says x-ratelimit-remaining-minute: 0"],
            ),
            (
                "GET shop/api/users",
                &bob,
                "",
                200,
                &["says x-ratelimit-remaining-minute: 99"],
            ),
            ("GET shop/api/products/2", "", "", 200, &[]),
        ],
    )
    .await;
}

/// Alone there is nobody who could verify a user's token.
#[test]
fn alone_it_is_told_what_is_missing() {
    let config = read("seed.yml", &Words::new().text("seed.yml"));
    let env = Env::seeded(1);
    let refused = Gateway::alone(&config, Telemetry::disabled(env.clone()), env);
    let told = refused.unwrap_err().to_string();
    assert!(
        told.contains("seed.yml:14:9: services[0].plugins[0]") && told.contains("jwks_uri"),
        "{told}"
    );
}
