//! shop-service by gRPC.

use tonic::{Request, Response, Status};
use trunkline::grpc::answer;

use super::devices;
use crate::proto::shop::shop_server::Shop;
use crate::proto::shop::{
    FindDeviceRequest, FindDeviceResponse, FindSlotRequest, FindSlotResponse,
    UpdateDeviceStatusRequest, UpdateDeviceStatusResponse,
};

pub(super) struct Rpc;

#[tonic::async_trait]
impl Shop for Rpc {
    async fn update_device_status(
        &self,
        request: Request<UpdateDeviceStatusRequest>,
    ) -> Result<Response<UpdateDeviceStatusResponse>, Status> {
        let update = |cx, update| async move { devices::update_status(&cx, update).await };
        answer(request, update).await
    }

    async fn find_device(
        &self,
        request: Request<FindDeviceRequest>,
    ) -> Result<Response<FindDeviceResponse>, Status> {
        let find = |cx, wanted| async move { devices::find(&cx, wanted).await };
        answer(request, find).await
    }

    async fn find_slot(
        &self,
        request: Request<FindSlotRequest>,
    ) -> Result<Response<FindSlotResponse>, Status> {
        let find = |cx, wanted| async move { devices::find_slot(&cx, wanted).await };
        answer(request, find).await
    }
}
