//! The `storefront` binary.

use std::process::ExitCode;

use storefront::Store;

#[tokio::main]
async fn main() -> ExitCode {
    trunkline::launch::<Store>().await
}
