//! The store, seen from outside.

#![allow(
    clippy::restriction,
    clippy::pedantic,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are no interface"
)]
#![cfg_attr(
    not(any(
        feature = "kafka",
        feature = "nats",
        feature = "rabbitmq",
        feature = "redis"
    )),
    allow(
        dead_code,
        unused_macros,
        unused_imports,
        reason = "no engine beyond this process was built"
    )
)]

mod accounts;
mod answers;
mod apart;
mod bad_input;
mod browsing;
mod collector;
mod crash;
mod engines;
mod flows;
mod full_disk;
mod guides;
mod mail;
mod newcomer;
mod orchestration;
mod orders;
mod payments;
mod postgres;
mod store;
mod story;
