//! Conformance suites, fault injection and real servers for tests. A development dependency only.

pub mod conformance;
mod eventually;
mod faulty;
mod history;
pub mod http;
pub mod journal;
pub mod kafka;
pub mod mosquitto;
pub mod nats;
pub mod nginx;
pub mod node;
mod ports;
pub mod postgres;
mod process;
mod processes;
mod proxy;
pub mod python;
pub mod rabbitmq;
pub mod redis;
pub mod saga;
mod sample;
pub mod smtp;
pub mod trace;

pub use eventually::{eventually, eventually_or};
pub use faulty::{Faulty, Plan};
pub use history::{Expected, History, Violation};
pub use ports::free_port;
pub use process::Child;
pub use processes::Processes;
pub use proxy::Proxy;
pub use sample::{event, numbered, topic};
