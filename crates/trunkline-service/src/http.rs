//! Routes: handlers are plain async functions, and their types say what goes in and out.

mod asset;
mod handler;
pub(crate) mod idempotent;
mod input;
mod output;
mod route;

pub use asset::Asset;
pub use handler::HttpHandler;
pub use input::Input;
pub use output::{Accepted, Answer, Created, NoContent, Output};
pub(crate) use route::{Route, router};
