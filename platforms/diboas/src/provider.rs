//! provider-service: who carries out the legs of a transaction.
//!
//! The providers are outside the platform and may be down, refuse, or do something and not answer. Who is well and cheapest is
//! chosen by the toolkit's registry; a leg is asked of the one that was chosen, under one key, so that asking again does it
//! once, and taking it back before it came means that it never will be done.

mod http;
mod remote;

use std::sync::Arc;

use trunkline::providers::{Providers, ProvidersConfig};
use trunkline::{Env, Result, Service};

use crate::chains::PROVIDERS;

pub use http::{Choice, Execute, Health, LegKind, LegState, Receipt, Undo, Wanted};
use remote::Remote;

/// The service's name.
pub const NAME: &str = "provider-service";
/// Where the providers are, unless `[external.<provider>]` says otherwise.
pub const CHAINS_URL: &str = "http://127.0.0.1:9912";

/// The service.
pub fn service() -> Service {
    let registry = registry();
    let service = PROVIDERS
        .into_iter()
        .fold(Service::new(NAME), |service, provider| {
            service.calls_external(provider, CHAINS_URL)
        });
    service
        .version("1.0.0")
        .check("providers", Arc::new(registry.clone()))
        .state(registry)
        .post("/api/v1/quotes", http::choose)
        .post("/api/v1/legs", http::execute)
        .post("/api/v1/legs/reverse", http::reverse)
        .get("/api/v1/legs/{provider}/{transaction_id}/{leg}", http::find)
        .get("/api/v1/providers", http::health)
}

type Registry = Providers<Remote>;

fn registry() -> Registry {
    let providers = Providers::new("chain", ProvidersConfig::default(), Env::system());
    for name in PROVIDERS {
        let registered: Result<()> = providers.register(name, Remote::named(name).into());
        if let Err(error) = registered {
            // There are three, and the registry takes more.
            tracing::error!(%error, name, "a provider is not registered");
        }
    }
    providers
}
