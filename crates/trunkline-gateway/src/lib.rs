//! The API gateway: the one door from outside.
//!
//! A request has its path normalised, finds its route, passes the route's plugins and goes on through the
//! `Channel` to its service, which may run in this process or elsewhere. [`Config`] has the names of Kong's
//! declarative file. Everything that the gateway itself refuses is a problem (RFC 9457) with a `request_id`.

mod admin;
mod alone;
mod arrival;
mod beside;
mod body;
mod client;
mod compile;
mod config;
mod consumers;
mod entry;
mod file;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod headers;
mod means;
mod meters;
mod outside;
mod path;
mod plugin;
mod problem;
mod proxy;
mod route;
mod server;
mod tls;
mod took;
mod upgrade;
mod upstream;
mod workers;

pub use admin::Keeper;
pub use alone::{Alone, AloneRunning};
pub use config::{
    Active, Algorithm, CaCertificate, Certificate, Checks, Config, Consumer, HashOn, Health,
    JwtSecret, KeyCredential, Passive, PluginConfig, Protocol, Route, Schemes, Service, Target,
    Upstream, Url,
};
pub use consumers::Member;
pub use means::Means;
pub use path::normalise;
pub use plugin::{AnswerHeaders, Ended, Exchange, Plugin, Verdict};
pub use proxy::Gateway;
pub use server::Limits;
pub use upstream::{TargetState, UpstreamState};
