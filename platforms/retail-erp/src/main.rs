//! The `retail-erp` binary.

use std::process::ExitCode;

use retail_erp::Erp;

#[tokio::main]
async fn main() -> ExitCode {
    trunkline::launch::<Erp>().await
}
