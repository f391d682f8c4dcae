//! What somebody sees who starts the platform.

use std::time::Duration;

use trunkline::{Program as _, Result};

use crate::Finance;

/// How long the token that is shown is good for.
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// Addresses, and a deposit and a transfer in one line each.
pub(crate) fn text(finance: &Finance) -> Result<String> {
    let (running, data) = (finance.running(), finance.data());
    let gateway = running.gateway_url();
    let user = crate::token(data, "user456", &[], LIFETIME)?;
    Ok(format!(
        "
  gateway   {gateway}
  admin     {admin}   /health  /metrics  /api/v1/sagas  /api/v1/events
  data      {data}

  USER='Authorization: Bearer {user}'

Money that comes in, and a transfer from one chain to another:

  curl -s -H \"$USER\" -H \"Idempotency-Key: $(date +%s%N)\" \\
    --json '{{\"amount\": {{\"amount\": \"250\", \"currency\": \"USDC\"}}}}' {gateway}/api/v1/wallet/deposits
  curl -s -H \"$USER\" -H \"Idempotency-Key: $(date +%s%N)\" --json '{{\"recipient\": \"user789\", \"from\": \"ethereum\",
    \"to\": \"solana\", \"amount\": {{\"amount\": \"100\", \"currency\": \"USDC\"}}}}' {gateway}/api/v1/transactions
  curl -s -H \"$USER\" {gateway}/api/v1/transactions

Ctrl-C stops the platform, and the next start goes on from there.
",
        admin = running.admin_url(),
        data = data.display(),
    ))
}
