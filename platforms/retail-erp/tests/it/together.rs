//! The ERP in one process, whose services are held to what they declare all the same.

use std::path::Path;

use retail_erp::proto::payment::ProcessPaymentRequest;
use retail_erp::proto::payment::payment_client::PaymentClient;
use tonic::Code;
use trunkline::{Env, Store};
use trunkline_security::AuditEntry;
use trunkline_store::{AuditLog, AuditQuery};

use crate::erp::{BEANS, TestErp, new_order, place};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_passes_and_a_call_that_nobody_declared_does_not() {
    let erp = TestErp::start_with("[tls]\ndevelopment = true\n").await;
    let paid = place(&erp.customer(), "k", new_order(BEANS, 2, "tok_visa")).await;
    assert_eq!(paid.expect(201)["status"], "confirmed");

    let customer = erp.context("user_789", &[]);
    let channel = erp.rpc("product-service", "payment-service", &customer);
    let pay = ProcessPaymentRequest {
        order_id: "free".to_owned(),
        amount_minor: 1,
        card_token: "tok_visa".to_owned(),
    };
    let status = PaymentClient::new(channel).process_payment(pay).await;
    assert_eq!(status.unwrap_err().code(), Code::PermissionDenied);
    assert!(erp.charges("free").await.is_empty());
    let folder = erp.stop().await;
    let noted = refusals(&folder.path().join("data"), "payment-service").await;
    let lines: Vec<_> = noted
        .iter()
        .map(|entry| (&*entry.actor, &*entry.object, entry.correlation_id.clone()))
        .collect();
    let object = "payment-service retail.payment.v1.Payment/ProcessPayment";
    assert_eq!(
        lines,
        [("product-service", object, Some(customer.correlation_id))]
    );
}

/// What the audit log of a service that was stopped says; its entries vouch for each other.
pub(crate) async fn refusals(data: &Path, service: &str) -> Vec<AuditEntry> {
    let url = format!("sqlite:{}", data.join(format!("{service}.db")).display());
    let store = Store::open(&url, service, Env::system()).await.unwrap();
    let log = AuditLog::open(store.clone(), None).await.unwrap();
    assert_eq!(log.verify(None).await.unwrap().broken, None);
    let found = log.query(&AuditQuery::default()).await.unwrap();
    store.close().await;
    found.into_iter().map(|record| record.entry).collect()
}
