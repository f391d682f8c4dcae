//! Devices and machines that speak gRPC.

use retail_erp::proto::device::device_gateway_client::DeviceGatewayClient;
use retail_erp::proto::device::{Count, ReportDataRequest, ReportStatusRequest};
use retail_erp::proto::vm::vending_machine_client::VendingMachineClient;
use retail_erp::proto::vm::{FinishSaleRequest, SellRequest};
use retail_erp::{DEVICE, demo};
use trunkline::{Context, grpc};
use trunkline_testkit::eventually;

use crate::erp::{SOON, TestErp};

const BAR: &str = "prod_456";

fn status(quantity: u32) -> ReportStatusRequest {
    let product_id = BAR.to_owned();
    ReportStatusRequest {
        status: "online".to_owned(),
        stock: vec![Count {
            product_id,
            quantity,
        }],
    }
}

fn sell(sale_id: &str, card_token: &str) -> SellRequest {
    SellRequest {
        sale_id: sale_id.to_owned(),
        slot: "A1".to_owned(),
        card_token: card_token.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_reports_and_sells_by_grpc() {
    let erp = TestErp::start().await;
    let itself = erp.context(demo::MACHINE, &[DEVICE]);
    let mut gateway = DeviceGatewayClient::new(erp.rpc("device", "iot-gateway", &itself));
    let mut vm = VendingMachineClient::new(erp.rpc("device", "vm-service", &itself));
    gateway.report_status(status(7)).await.unwrap();
    erp.has_stock(demo::VENDING_SHOP, BAR, (7, 0)).await;

    // vm-service hears of it by the event.
    let mut sold = None;
    eventually(SOON, async || {
        sold = vm.sell(sell("s1", "tok_visa")).await.ok();
        sold.is_some()
    })
    .await;
    let sold = sold.unwrap().into_inner();
    assert_eq!(sold.status, "vending");
    let end = FinishSaleRequest {
        sale_id: "s1".to_owned(),
        vended: true,
    };
    assert_eq!(
        vm.finish_sale(end).await.unwrap().into_inner().status,
        "vended"
    );
    erp.has_stock(demo::VENDING_SHOP, BAR, (6, 0)).await;
    let refused = vm
        .sell(sell("s2", "tok_declined"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (&*refused.status, &*refused.reason),
        ("refused", "payment_failed")
    );

    let count = r#"{"stock": [{"productId": "prod_456", "quantity": 5}]}"#;
    let report = ReportDataRequest {
        data_type: "stock_update".to_owned(),
        data: count.to_owned(),
    };
    gateway.report_data(report).await.unwrap();
    erp.has_stock(demo::VENDING_SHOP, BAR, (5, 0)).await;
    erp.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_device_is_refused_by_grpc_too() {
    let erp = TestErp::start().await;
    let code = async |context: &Context| {
        let mut gateway = DeviceGatewayClient::new(erp.rpc("device", "iot-gateway", context));
        let status = gateway.report_status(status(99)).await.unwrap_err();
        grpc::error(status).code().to_owned()
    };
    assert_eq!(code(&erp.context(demo::MACHINE, &[])).await, "role_missing");
    assert_eq!(
        code(&erp.context("ghost", &[DEVICE])).await,
        "device_unknown"
    );
    let mut gateway = DeviceGatewayClient::new(erp.rpc(
        "device",
        "iot-gateway",
        &erp.context(demo::MACHINE, &[DEVICE]),
    ));
    let wrong = ReportDataRequest {
        data_type: "stock_update".to_owned(),
        data: "{".to_owned(),
    };
    let status = gateway.report_data(wrong).await.unwrap_err();
    assert_eq!(grpc::error(status).code(), "data_invalid");
    assert_eq!(erp.stock(demo::VENDING_SHOP, BAR).await, (12, 0));
    erp.stop().await;
}
