//! How others ask vm-service.

use trunkline::{Cx, Result, grpc};

use super::{NAME, NewSale, SaleStatus};
use crate::proto::keyed;
use crate::proto::vm::SellRequest;
use crate::proto::vm::vending_machine_client::VendingMachineClient;

/// Sells a piece by the machine that the work at hand is on behalf of, which is told by a command to vend. Gives how the
/// sale stands, and why it was refused.
///
/// # Errors
/// Those of `POST /api/vm/sales`.
pub(crate) async fn purchase(cx: &Cx, new: NewSale) -> Result<(SaleStatus, String)> {
    let mut vm = VendingMachineClient::new(cx.service(NAME)?.grpc());
    let key = format!("{}:{}", cx.user()?, new.sale_id);
    let wanted = SellRequest {
        sale_id: new.sale_id,
        slot: new.slot,
        card_token: new.card_token,
    };
    let sale = vm.purchase(keyed(&key, wanted)?).await;
    let sale = sale.map_err(grpc::error)?.into_inner();
    Ok((SaleStatus::named(&sale.status), sale.reason))
}
