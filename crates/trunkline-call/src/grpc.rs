//! gRPC over the channel: tonic's generated clients take a [`GrpcChannel`], in process and over the network alike.
//!
//! A call carries what a REST request carries, in metadata of the same names (see [`crate::headers`]). `grpc-timeout` and
//! `x-trunkline-deadline-ms` are one thing: whoever reads takes the shorter, whoever writes writes both. [`status()`] and
//! [`error()`] turn errors into statuses and back; `docs/guides/grpc.md` has the table.

mod channel;
mod status;

pub use channel::GrpcChannel;
pub(crate) use status::is_failure;
pub use status::{encode, error, status};
