//! What somebody sees who starts the ERP.

use std::time::Duration;

use trunkline::{Program as _, Result};

use crate::{DEVICE, Erp, demo};

/// How long the tokens that are shown are good for.
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// Addresses, and an order and a sale in one line each.
pub(crate) fn text(erp: &Erp) -> Result<String> {
    let (running, data) = (erp.running(), erp.data());
    let gateway = running.gateway_url();
    let customer = crate::token(data, "user_789", &[], LIFETIME)?;
    let machine = crate::token(data, demo::MACHINE, &[DEVICE], LIFETIME)?;
    let (shop, vm) = (demo::SHOP, demo::MACHINE);
    Ok(format!(
        "
  gateway   {gateway}
  admin     {admin}   /health  /metrics  /api/v1/events  /api/v1/flows
  data      {data}   mail in {mail}

  CUSTOMER='Authorization: Bearer {customer}'
  MACHINE='Authorization: Bearer {machine}'

An order:

  curl -s -H \"$CUSTOMER\" -H \"Idempotency-Key: $(date +%s%N)\" --json '{{\"shopId\": \"{shop}\",
    \"items\": [{{\"productId\": \"prod_789\", \"quantity\": 2}}], \"cardToken\": \"tok_visa\"}}' {gateway}/orders

A vending machine that comes online and sells:

  curl -s -H \"$MACHINE\" --json '{{\"status\": \"online\"}}' {gateway}/api/devices/{vm}/status
  curl -s -H \"$MACHINE\" --json '{{\"saleId\": \"s1\", \"slot\": \"A1\", \"cardToken\": \"tok_visa\"}}' \\
    {gateway}/api/vm/sales
  curl -s -H \"$MACHINE\" --json '{{\"vended\": true}}' {gateway}/api/vm/sales/s1/finish

Ctrl-C stops the ERP, and the next start goes on from there.
",
        admin = running.admin_url(),
        mail = data.join("mail").display(),
        data = data.display(),
    ))
}
