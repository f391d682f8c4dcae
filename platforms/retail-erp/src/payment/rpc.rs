//! payment-service by gRPC.

use tonic::{Request, Response, Status};
use trunkline::Money;
use trunkline::grpc::answer;

use super::charge::{self, Process};
use super::refunds;
use crate::proto::payment::payment_server::Payment;
use crate::proto::payment::{
    ProcessPaymentRequest, ProcessPaymentResponse, RefundPaymentRequest, RefundPaymentResponse,
};

pub(super) struct Rpc;

#[tonic::async_trait]
impl Payment for Rpc {
    async fn process_payment(
        &self,
        request: Request<ProcessPaymentRequest>,
    ) -> Result<Response<ProcessPaymentResponse>, Status> {
        let process = |cx, wanted: ProcessPaymentRequest| async move {
            let wanted = Process {
                order_id: wanted.order_id,
                amount: Money::from_minor(wanted.amount_minor)?,
                card_token: wanted.card_token,
            };
            let outcome = charge::process(&cx, wanted).await?;
            Ok(ProcessPaymentResponse {
                payment_id: outcome.payment_id,
                failure: outcome.failure.unwrap_or_default(),
            })
        };
        answer(request, process).await
    }

    async fn refund_payment(
        &self,
        request: Request<RefundPaymentRequest>,
    ) -> Result<Response<RefundPaymentResponse>, Status> {
        let refund = |cx, wanted: RefundPaymentRequest| async move {
            let refund_id = refunds::refund(&cx, &wanted.order_id).await?;
            Ok(RefundPaymentResponse {
                refund_id: refund_id.unwrap_or_default(),
            })
        };
        answer(request, refund).await
    }
}
