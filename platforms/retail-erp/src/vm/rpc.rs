//! Machines that sell by gRPC.

use tonic::{Request, Response, Status};
use trunkline::Cx;
use trunkline::grpc::answer;

use super::http::{NewSale, Sale};
use super::sale;
use crate::device_of;
use crate::proto::vm::vending_machine_server::VendingMachine;
use crate::proto::vm::{FinishSaleRequest, FinishSaleResponse, SellRequest, SellResponse};

pub(super) struct Rpc;

impl From<SellRequest> for NewSale {
    fn from(wanted: SellRequest) -> Self {
        Self {
            sale_id: wanted.sale_id,
            slot: wanted.slot,
            card_token: wanted.card_token,
        }
    }
}

impl From<Sale> for SellResponse {
    fn from(sale: Sale) -> Self {
        Self {
            status: sale.status.name().to_owned(),
            order_id: sale.order_id,
            reason: sale.reason.unwrap_or_default(),
        }
    }
}

#[tonic::async_trait]
impl VendingMachine for Rpc {
    async fn sell(&self, request: Request<SellRequest>) -> Result<Response<SellResponse>, Status> {
        let sell = |cx, wanted: SellRequest| async move {
            sale::sell(&cx, &device_of(&cx)?, wanted.into())
                .await
                .map(SellResponse::from)
        };
        answer(request, sell).await
    }

    async fn purchase(
        &self,
        request: Request<SellRequest>,
    ) -> Result<Response<SellResponse>, Status> {
        // A report carries its device and no roles; who reported, iot-gateway's broker has verified.
        let purchase = |cx: Cx, wanted: SellRequest| async move {
            sale::purchase(&cx, &cx.user()?, wanted.into())
                .await
                .map(SellResponse::from)
        };
        answer(request, purchase).await
    }

    async fn finish_sale(
        &self,
        request: Request<FinishSaleRequest>,
    ) -> Result<Response<FinishSaleResponse>, Status> {
        let finish = |cx, end: FinishSaleRequest| async move {
            let sale = sale::finish(&cx, &device_of(&cx)?, &end.sale_id, end.vended).await?;
            Ok(FinishSaleResponse {
                status: sale.status.name().to_owned(),
            })
        };
        answer(request, finish).await
    }
}
