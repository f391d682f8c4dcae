//! Devices that report by gRPC.

use tonic::{Request, Response, Status};
use trunkline::Error;
use trunkline::grpc::answer;

use super::report::{self, DataReport, StatusReport};
use crate::device_of;
use crate::events::{Count, DeviceStatus};
use crate::proto::device::device_gateway_server::DeviceGateway;
use crate::proto::device::{
    ReportDataRequest, ReportDataResponse, ReportStatusRequest, ReportStatusResponse,
};

pub(super) struct Rpc;

#[tonic::async_trait]
impl DeviceGateway for Rpc {
    async fn report_status(
        &self,
        request: Request<ReportStatusRequest>,
    ) -> Result<Response<ReportStatusResponse>, Status> {
        let told = |cx, told: ReportStatusRequest| async move {
            let device_id = device_of(&cx)?;
            let stock = told.stock.into_iter().map(|count| Count {
                product_id: count.product_id,
                quantity: count.quantity,
            });
            let report = StatusReport {
                status: DeviceStatus::named(&told.status)?,
                stock: stock.collect(),
            };
            report::status(&cx, device_id, report).await?;
            Ok(ReportStatusResponse {})
        };
        answer(request, told).await
    }

    async fn report_data(
        &self,
        request: Request<ReportDataRequest>,
    ) -> Result<Response<ReportDataResponse>, Status> {
        let told = |cx, told: ReportDataRequest| async move {
            let device_id = device_of(&cx)?;
            let data = serde_json::from_str(&told.data).map_err(|error| {
                Error::invalid("data_invalid", "expected data to be JSON").with_source(error)
            })?;
            let data_type = told.data_type;
            report::data(&cx, device_id, DataReport { data_type, data }).await?;
            Ok(ReportDataResponse {})
        };
        answer(request, told).await
    }
}
