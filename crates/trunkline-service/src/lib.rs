//! Services, platforms, configuration and the declared topology.
//!
//! A [`Service`] is a value that declares everything about it; a [`Platform`] is a list of them. Handlers are async
//! functions that take a [`Cx`] and get at everything else through it.

mod alerts;
mod asyncapi;
mod config;
mod cx;
#[cfg(feature = "device")]
mod device;
mod events;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod http;
mod jobs;
mod kubernetes;
#[cfg(feature = "launch")]
mod launch;
mod namespace;
mod openapi;
mod ping;
mod platform;
mod processes;
mod recovery;
mod reload;
mod rooms;
mod runtime;
mod saga;
mod sealing;
mod service;
mod signal;
mod sourcing;
mod topology;
mod trail;

pub use config::{
    Admin, Alerts, Config, DeviceSection, Events, ExternalAddress, Finding,
    Gateway as GatewaySection, Log, RealtimeSection, Tls, Tokens, Traces,
};
pub use cx::{Cx, TxGuard};
#[cfg(feature = "device")]
pub use device::{CommandState, Devices};
pub use http::{Accepted, Asset, Created, NoContent};
pub use jobs::Schedule;
pub use kubernetes::Kubernetes;
#[cfg(feature = "launch")]
pub use launch::{Program, Settings, Token, launch, print, token_secret, user_token};
pub use namespace::Namespace;
pub use openapi::Operation;
pub use ping::{Ping, PingStatus};
pub use platform::{Platform, Running};
pub use processes::{Notice, Part, Processes, parent_gone};
pub use recovery::Recovery;
pub use rooms::Tell;
pub use saga::{Saga, SagaDefinition, SagaHost};
pub use service::{Service, every};
pub use signal::stop_requested;
