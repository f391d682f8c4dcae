//! The `diboas` binary.

use std::process::ExitCode;

use diboas::Finance;

#[tokio::main]
async fn main() -> ExitCode {
    trunkline::launch::<Finance>().await
}
