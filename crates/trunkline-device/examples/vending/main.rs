//! Vending machines that report, sell from their stock and take commands; a gateway for them; and both measured.
//!
//!     cargo run --release -p trunkline-device --example vending -- machines mqtt://127.0.0.1:1883 3 10
//!     cargo run --release -p trunkline-device --example vending -- bench 10000 10 60 events
//!
//! `machines URL COUNT SECONDS` runs machines named m0, m1, …, each of which reports its status every so many seconds.
//! `bench COUNT SECONDS FOR (events | states)` starts mosquitto, machines in a process of their own, and a gateway in this
//! one, and prints the gateway's CPU and memory as JSON. Its handler keeps each machine's state, and with `events` publishes
//! each report on the bus too. Machines and broker need a file for each machine: it raises
//! its own soft limit to the hard one, and says so where that is too low.

#![expect(clippy::print_stdout, reason = "a program of the command line")]

mod bench;
mod gateway;
mod machine;

use std::time::Duration;

use trunkline::{Config, Error, Result, telemetry};

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    telemetry::init_logs(Config::default().log.format, "warn")?;
    let usage = || {
        Error::invalid(
            "usage",
            "machines URL COUNT SECONDS, or bench COUNT SECONDS FOR events|states",
        )
    };
    let number = |word: &str| word.parse::<u64>().map_err(|_| usage());
    match *words {
        ["machines", url, count, every] => {
            machine::run(url, number(count)?, Duration::from_secs(number(every)?)).await
        }
        ["bench", count, every, seconds, what] => {
            let times = [number(every)?, number(seconds)?].map(Duration::from_secs);
            println!(
                "{}",
                bench::run(number(count)?, times, what == "events").await?
            );
            Ok(())
        }
        _ => Err(usage()),
    }
}
