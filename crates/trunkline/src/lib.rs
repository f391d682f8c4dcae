//! Trunkline: how services talk to each other. This is the crate that authors import.
//!
//! A team writes its services once: routes, event handlers, tables, and what each of them may call and publish. In one
//! process they run on an embedded durable log and SQLite; where they run otherwise is configuration.

pub use axum::Json;
pub use axum::extract::{Path, Query};
pub use trunkline_bus as bus;
pub use trunkline_bus::DeadLetter;
pub use trunkline_call as call;
pub use trunkline_call::{Client, Network, Responses, balance, discovery, providers};
pub use trunkline_core as core;
pub use trunkline_core::{
    ByteString, Context, Dialect, Env, Envelope, Error, ErrorKind, Event, EventData, EventDecl,
    Kind, Money, Priority, Result, Retry, Timestamp, TraceContext, Upcast, Version, report,
};
#[cfg(feature = "device")]
pub use trunkline_device as device;
pub use trunkline_gateway as gateway;
pub use trunkline_saga::{Flow, FlowState, Story};
pub use trunkline_security::{Claims, KeyringConfig, Secret, Signer, Verifier, password};
pub use trunkline_service::{
    Accepted, Asset, Config, Created, Cx, Namespace, NoContent, Notice, Part, Ping, PingStatus,
    Platform, Processes, Recovery, Running, Saga, SagaDefinition, Schedule, Service, TxGuard,
    every, parent_gone, stop_requested,
};
#[cfg(feature = "device")]
pub use trunkline_service::{CommandState, Devices};
#[cfg(feature = "launch")]
pub use trunkline_service::{Program, Settings, Token, launch, print, token_secret, user_token};
pub use trunkline_store::{
    Aggregate, Aggregates, Conn, EventType, EventUpcast, Loaded, Migration, Projection,
    ProjectionStatus, Projections, Reader, Recorded, SqlRow, SqlValue, Statement, Store, Target,
    Tx, sql, sql_error, sqlx,
};
pub use trunkline_telemetry as telemetry;

/// Socket.IO: what handlers need beside [`Namespace`].
pub mod realtime {
    pub use trunkline_realtime::{Emit, Handshake, Member, Of, Presence, Rate, Socket};
    pub use trunkline_service::Tell;
}

/// gRPC: what handlers and callers need beside what tonic generates.
#[cfg(feature = "grpc")]
pub mod grpc {
    pub use trunkline_call::grpc::{GrpcChannel, error, status};
    pub use trunkline_service::grpc::answer;
}

/// Sagas by orchestration: what their code and their tests need beside [`Saga`] and [`SagaDefinition`].
pub mod saga {
    pub use trunkline_saga::{
        Body, Data, Entry, Fault, Instance, Probe, Query, Record, Retries, State, Which,
    };
}
