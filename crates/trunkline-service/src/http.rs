//! Routes: handlers are plain async functions, and their types say what goes in and out.

mod handler;
pub(crate) mod idempotent;
mod input;
mod output;
mod route;

pub use handler::HttpHandler;
pub use input::Input;
pub use output::{Accepted, Answer, Created, NoContent, Output};
pub(crate) use route::{Route, router};
