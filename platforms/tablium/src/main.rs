//! The `tablium` binary.

use std::process::ExitCode;

use tablium::Site;

#[tokio::main]
async fn main() -> ExitCode {
    trunkline::launch::<Site>().await
}
