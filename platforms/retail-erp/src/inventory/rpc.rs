//! inventory-service by gRPC.

use tonic::{Request, Response, Status};
use trunkline::grpc::answer;

use super::reservations;
use crate::proto::inventory::inventory_server::Inventory;
use crate::proto::inventory::{
    ReleaseStockRequest, ReleaseStockResponse, ReserveStockRequest, ReserveStockResponse,
};

pub(super) struct Rpc;

#[tonic::async_trait]
impl Inventory for Rpc {
    async fn reserve_stock(
        &self,
        request: Request<ReserveStockRequest>,
    ) -> Result<Response<ReserveStockResponse>, Status> {
        let hold = |cx, wanted| async move {
            let expires_at = reservations::hold(&cx, wanted).await?.as_second();
            Ok(ReserveStockResponse { expires_at })
        };
        answer(request, hold).await
    }

    async fn release_stock(
        &self,
        request: Request<ReleaseStockRequest>,
    ) -> Result<Response<ReleaseStockResponse>, Status> {
        let release = |cx, wanted: ReleaseStockRequest| async move {
            reservations::release(&cx, &wanted.order_id).await?;
            Ok(ReleaseStockResponse {})
        };
        answer(request, release).await
    }
}
