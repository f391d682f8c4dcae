//! How all services are, as the staff and the operators see it.

use serde_json::{Value, json};
use trunkline_testkit::eventually;

use crate::finance::TestFinance;
use crate::outside::SOON;

const PATH: &str = "/api/v1/health";
const SERVICES: [&str; 4] = [
    "wallet-service",
    "transaction-service",
    "provider-service",
    "compliance-service",
];

fn of<'a>(report: &'a Value, service: &str) -> &'a Value {
    let services = report["services"].as_array().unwrap();
    let found = services.iter().find(|one| one["service"] == service);
    found.unwrap_or_else(|| panic!("{service} is missing in {report}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_staff_sees_every_service_with_its_checks() {
    let finance = TestFinance::start().await;
    finance
        .caller("ada", &[])
        .get(PATH)
        .await
        .refused(403, "role_missing");
    finance.deposits("ada", "50").await;
    let id = finance.sends("ada", "bob", "20").await;
    finance.ended(&id).await;
    finance.settled(&id).await;
    let staff = finance.caller("boss", &[diboas::STAFF]);
    let report = staff.get(PATH).await.expect(200);
    assert_eq!(report["healthy"], true, "{report}");
    let admin = finance.admin.get("/health").await.expect(200);
    for report in [&report, &admin] {
        for service in SERVICES {
            let one = of(report, service);
            assert_eq!(one["status"], "healthy", "{one}");
            assert_eq!(one["checks"]["database"], "ok", "{one}");
            assert!(one["latency_us"].as_u64().unwrap() > 0, "{one}");
            assert_eq!(one["details"]["eventBus"]["parked_keys"], 0, "{one}");
        }
        let providers = &of(report, "provider-service")["details"]["providers"];
        let well = json!({ "meridian": "ok", "polaris": "ok", "quasar": "ok" });
        assert_eq!(*providers, well);
        let sagas = &of(report, "transaction-service")["details"]["sagas"];
        assert_eq!(sagas["parked"], 0);
        assert_eq!(sagas["overdue"], 0);
        assert!(sagas["last_commit"].is_string(), "{sagas}");
        assert_eq!(of(report, "wallet-service")["details"].get("sagas"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_well_is_named_and_the_report_comes() {
    let finance = TestFinance::start().await;
    finance.deposits("ada", "50").await;
    finance.all_providers_are("down").await;
    finance.sends("ada", "bob", "20").await;
    let staff = finance.caller("boss", &[diboas::STAFF]);
    // While nobody is asked: each is left out for a while when it has failed.
    eventually(SOON, async || {
        let report = staff.get(PATH).await.expect(200);
        of(&report, "provider-service")["status"] == "unhealthy" && report["healthy"] == false
    })
    .await;
    let report = staff.get(PATH).await.expect(200);
    let details = &of(&report, "provider-service")["details"]["providers"];
    let meridian = details["meridian"].as_str().unwrap();
    assert!(meridian.starts_with("failed"), "{details}");
    for service in ["wallet-service", "compliance-service"] {
        assert_eq!(of(&report, service)["status"], "healthy");
    }
}
