//! The web store: ten services, their gateway, and the sandbox of the payment provider beside them.
//!
//! [`platform`] is the whole declaration; [`Store`] runs it in one process. Each service is a module with
//! its own tables, routes and handlers, and knows of the others what they publish and answer:
//!
//! | service | does |
//! |---|---|
//! | [`user`] | profiles and addresses |
//! | [`auth`] | accounts, passwords and tokens |
//! | [`product`] | the catalogue |
//! | [`cart`] | what a customer has chosen |
//! | [`order`] | orders, and their fate |
//! | [`payment`] | charges, once for each order |
//! | [`inventory`] | stock, and what is held of it |
//! | [`notification`] | mail |
//! | [`search`] | finding products |
//! | [`analytics`] | counting |

pub mod analytics;
pub mod auth;
pub mod cart;
pub mod catalogue;
mod cursor;
pub mod demo;
pub mod events;
pub mod flows;
pub mod gateway;
pub mod inventory;
pub mod limits;
pub mod notification;
pub mod order;
pub mod payment;
pub mod product;
pub mod program;
pub mod sandbox;
pub mod search;
mod store;
pub mod user;
mod watch;
mod welcome;

use trunkline::{Env, Platform, Result, Signer};

pub use cursor::Cursors;
pub use program::Options;
pub use store::{Store, token};
pub use trunkline::Money;
pub use watch::Watch;

/// The store's declaration, without a gateway: its services, and the flow of an order.
///
/// # Errors
/// `Internal` when the signer's key fails.
pub fn platform(signer: &Signer, env: &Env) -> Result<Platform> {
    let cursors = Cursors::of(signer, env)?;
    Ok(Platform::new("storefront")
        .version(env!("CARGO_PKG_VERSION"))
        .service(user::service())
        .service(auth::service(signer.clone()))
        .service(product::service(cursors.clone()))
        .service(cart::service())
        .service(order::service(cursors))
        .service(payment::service())
        .service(inventory::service())
        .service(notification::service())
        .service(search::service())
        .service(analytics::service())
        .flow(flows::order()))
}
