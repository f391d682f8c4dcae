//! The site's gateway, by domain. What is not named here can't be reached from outside: `/internal` is between services.

use serde_json::json;
use trunkline::gateway::{Config, Route, Service};

use crate::{PAGE, auth, engine, realtime, state, user, wallet};

/// The routes, and who may use each how often.
pub fn config() -> Config {
    Config::default()
        .plugin(
            "request-size-limiting",
            json!({ "allowed_payload_size": 1 }),
        )
        .service(open(
            auth::NAME,
            Route::new("accounts", "/api/v1/auth").method("POST"),
            600,
        ))
        .service(signed_in(user::NAME, Route::new("users", "/api/v1/users")))
        .service(signed_in(
            engine::NAME,
            Route::new("tables", "/api/v1/games").method("POST"),
        ))
        .service(games())
        .service(signed_in(
            wallet::NAME,
            Route::new("ledger", "/api/v1/ledger"),
        ))
        .service(
            Service::new(realtime::NAME).route(Route::new("sockets", "/socket.io").keep_path()),
        )
        // A route of some methods goes before a longer one of all, so this one names none.
        .service(open(PAGE, Route::new("page", "/"), 6_000))
}

/// Games are for those who are signed in, the leaderboard is for everybody.
fn games() -> Service {
    let limit = json!({ "minute": 6_000, "limit_by": "consumer" });
    let watch = Route::new("games", "/api/v1/games").method("GET");
    let watch = watch.plugin("jwt", json!({}));
    let leaders = Route::new("leaders", "/api/v1/leaderboard").method("GET");
    let by_address = json!({ "minute": 600, "limit_by": "ip" });
    Service::new(state::NAME)
        .route(watch.plugin("rate-limiting", limit).keep_path())
        .route(leaders.plugin("rate-limiting", by_address).keep_path())
}

fn open(name: &str, route: Route, per_minute: u32) -> Service {
    let limit = json!({ "minute": per_minute, "limit_by": "ip" });
    Service::new(name)
        .route(route.keep_path())
        .plugin("rate-limiting", limit)
}

/// For those who have a token.
fn signed_in(name: &str, route: Route) -> Service {
    let limit = json!({ "minute": 6_000, "limit_by": "consumer" });
    Service::new(name)
        .route(route.keep_path())
        .plugin("jwt", json!({}))
        .plugin("rate-limiting", limit)
}
