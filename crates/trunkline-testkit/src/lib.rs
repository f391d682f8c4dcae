//! Conformance suites, fault injection and real servers for tests. A development dependency only.

pub mod conformance;
mod eventually;
mod faulty;
mod history;
mod ports;
pub mod postgres;
mod process;
mod sample;
pub mod smtp;

pub use eventually::eventually;
pub use faulty::{Faulty, Plan};
pub use history::{Expected, History, Violation};
pub use ports::free_port;
pub use process::Child;
pub use sample::{event, numbered, topic};
