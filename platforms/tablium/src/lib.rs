//! The board-game site: players sign up, find each other, play for points or for a stake, and are watched while they do.
//!
//! [`platform`] is the whole declaration; [`Site`] runs it, or a part of it. Each service is a module with its own tables,
//! routes and handlers, and knows of the others what they publish and answer:
//!
//! | service | does |
//! |---|---|
//! | [`auth`] | accounts, passwords and tokens |
//! | [`user`] | profiles, names, statistics and achievements |
//! | [`wallet`] | who has how many points, in a ledger of double entry |
//! | [`state`] | every game as its events |
//! | [`engine`] | brings players together, and carries each match to its end, as a saga |
//! | [`realtime`] | what players do and see while they play, by Socket.IO |
//! | [`PAGE`] | the page to play on |

pub mod auth;
pub mod engine;
pub mod events;
mod games;
pub mod gateway;
pub mod limits;
pub mod page;
mod points;
pub mod program;
pub mod realtime;
mod site;
pub mod state;
pub mod user;
mod view;
pub mod wallet;
mod welcome;

use trunkline::{Platform, Service, Signer, Verifier};

pub use games::{Kind, Move, Outcome, Position, Promotion, Reason, Seat};
pub use points::{CURRENCY, Points};
pub use program::Options;
pub use site::{Site, token};
pub use view::{ClockView, GameView, MoveView, PlayerView, Status};

/// The role of those who run the site.
pub const STAFF: &str = "staff";

/// The service that has the page to play on.
pub const PAGE: &str = "page-service";

/// The site's declaration, without a gateway.
pub fn platform(signer: Signer, verifier: Verifier) -> Platform {
    Platform::new("tablium")
        .version(env!("CARGO_PKG_VERSION"))
        .service(auth::service(signer))
        .service(user::service())
        .service(wallet::service())
        .service(state::service())
        .service(engine::service())
        .service(realtime::service(verifier))
        .service(Service::new(PAGE).version("1.0.0").assets(page::ASSETS))
}
