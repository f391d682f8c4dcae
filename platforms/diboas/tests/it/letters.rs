//! Messages of the financial queue that can't be handled: audited, told to operations, and recovered where that helps.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use diboas::events::TransactionSubmitted;
use diboas::letters::handle_failed_message;
use diboas::{Amount, Currency};
use serde_json::{Value, json};
use tempfile::TempDir;
use trunkline::{Config, Cx, Error, Event, Json, Platform, Result, Running, Service};
use trunkline_testkit::eventually;

use crate::finance::TestFinance;
use crate::outside::SOON;

/// Who is called when something is wrong: a webhook.
struct Pager {
    running: Running,
    told: Arc<Mutex<Vec<Value>>>,
    _folder: TempDir,
}

async fn take(cx: Cx, Json(alert): Json<Value>) -> Result<Json<()>> {
    let told = cx.state::<Arc<Mutex<Vec<Value>>>>()?;
    told.lock().unwrap().push(alert);
    Ok(Json(()))
}

impl Pager {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let told = Arc::new(Mutex::default());
        let pager = Service::new("pager")
            .state(Arc::clone(&told))
            .post("/alerts", take);
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config::default();
        config.data = folder.path().join("pager");
        config.bus = "memory:".to_owned();
        config.admin.address = anywhere;
        let section = config.service.entry("pager".to_owned()).or_default();
        section.insert("listen".to_owned(), anywhere.to_string().into());
        let running = Platform::new("pager").service(pager).start(config).await;
        Self {
            running: running.unwrap(),
            told,
            _folder: folder,
        }
    }

    fn url(&self) -> String {
        let address = self.running.service_address("pager").unwrap();
        format!("http://{address}/alerts")
    }

    /// The alerts of this sort about a group, once there is one.
    async fn alerts(&self, alert: &str, group: &str) -> Vec<Value> {
        let found = || {
            let told = self.told.lock().unwrap();
            let found = told
                .iter()
                .filter(|one| one["alert"] == alert && one["group"] == group);
            found.cloned().collect::<Vec<_>>()
        };
        eventually(SOON, async || !found().is_empty()).await;
        found()
    }
}

/// A bank that settles what is submitted, while it is open.
#[derive(Default)]
struct Bank {
    is_open: AtomicBool,
    attempts: AtomicUsize,
    settled: Mutex<Vec<String>>,
}

const SETTLEMENT: &str = "settlement-service";

async fn settle(cx: Cx, event: Event<TransactionSubmitted>) -> Result<()> {
    let bank = cx.state::<Arc<Bank>>()?;
    bank.attempts.fetch_add(1, Ordering::SeqCst);
    if !bank.is_open.load(Ordering::SeqCst) {
        return Err(Error::unavailable("bank_closed", "the bank is closed"));
    }
    let id = event.data.transaction_id;
    bank.settled.lock().unwrap().push(id);
    Ok(())
}

/// One more service of the platform, which reads the financial queue.
fn settlement(bank: &Arc<Bank>) -> Service {
    Service::new(SETTLEMENT)
        .state(Arc::clone(bank))
        .on(settle)
        .on_dead_letter(handle_failed_message)
}

fn with(pager: &Pager) -> impl FnOnce(&mut Config) {
    let url = pager.url();
    move |config| {
        config.alerts.webhook = Some(url);
        config.events.retry_initial_ms = 2;
        // A thousand recoveries take longer than the test may: the last of them would leave the letter to people.
        config.events.recovery_initial_ms = 100;
        config.events.recovery_max_ms = 200;
        config.events.recoveries_max = 1_000;
    }
}

async fn letters(finance: &TestFinance, group: &str) -> Vec<Value> {
    let path = format!("/api/v1/dead-letters?group={group}");
    let found = finance.admin.get(&path).await.expect(200);
    found["dead_letters"].as_array().unwrap().clone()
}

/// The objects of a service's entries about failed messages.
async fn audited(finance: &TestFinance, service: &str) -> Vec<String> {
    let told = finance
        .admin
        .get("/api/v1/audit?limit=1000")
        .await
        .expect(200);
    let entries = told["entries"].as_array().unwrap().iter();
    entries
        .filter(|entry| entry["action"] == "message.failed" && entry["service"] == service)
        .map(|entry| entry["object"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_recovered_when_the_cause_of_its_failure_is_gone() {
    let (pager, bank) = (Pager::start().await, Arc::new(Bank::default()));
    let service = settlement(&bank);
    let extend = |platform: Platform| platform.service(service);
    let finance = TestFinance::configured(with(&pager), extend).await;
    finance.deposits("ada", "50").await;
    let id = finance.sends("ada", "bob", "20").await;

    // Three attempts, and it is a dead letter; operations know, and what is done about it.
    let dead = pager.alerts("dead_letter", SETTLEMENT).await;
    assert_eq!(
        (
            &dead[0]["code"],
            &dead[0]["attempts"],
            &dead[0]["event_type"]
        ),
        (
            &json!("bank_closed"),
            &json!(3),
            &json!("transaction:submitted")
        )
    );
    let decided = pager.alerts("dead_letter_decided", SETTLEMENT).await;
    assert_eq!(decided[0]["decision"], "retry", "{decided:?}");
    assert!(decided[0]["retry_at"].is_string());
    eventually(SOON, async || bank.attempts.load(Ordering::SeqCst) > 4).await;
    let letter = letters(&finance, SETTLEMENT).await.remove(0);
    assert_eq!(letter["event"]["topic"], "financial.transactions");
    assert_eq!(letter["event"]["priority"], "high");
    assert_eq!(letter["event"]["data"]["transactionId"], json!(id));
    // It is the bank's affair alone: the money is on its way.
    assert_eq!(finance.ended(&id).await["status"], "completed");

    bank.is_open.store(true, Ordering::SeqCst);
    pager.alerts("dead_letter_recovered", SETTLEMENT).await;
    assert_eq!(*bank.settled.lock().unwrap(), [id]);
    assert_eq!(letters(&finance, SETTLEMENT).await, [] as [Value; 0]);
    let event = letter["event"]["id"].as_str().unwrap();
    let entries = audited(&finance, SETTLEMENT).await;
    let expected = format!("transaction:submitted {event}: bank_closed");
    assert!(
        !entries.is_empty() && entries.iter().all(|entry| *entry == expected),
        "{entries:?}"
    );
    pager.running.shutdown().await;
}

/// Somebody submits what is not there.
async fn forge(cx: Cx) -> Result<()> {
    cx.publish(TransactionSubmitted {
        transaction_id: "tx_forged".to_owned(),
        user_id: "eve".to_owned(),
        amount: Amount::of_minor(1, Currency::Usd),
        r#type: "SEND".to_owned(),
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_wrong_itself_is_kept_for_people() {
    let pager = Pager::start().await;
    let forger = Service::new("forger")
        .publishes::<TransactionSubmitted>()
        .on_start(forge);
    let extend = |platform: Platform| platform.service(forger);
    let finance = TestFinance::configured(with(&pager), extend).await;
    let group = diboas::transaction::NAME;
    let decided = pager.alerts("dead_letter_decided", group).await;
    assert_eq!(
        (&decided[0]["decision"], &decided[0]["retry_at"]),
        (&json!("keep"), &Value::Null)
    );
    let letter = letters(&finance, group).await.remove(0);
    assert_eq!(
        (&letter["code"], &letter["retry"], &letter["attempts"]),
        (
            &json!("transaction_unknown"),
            &json!("permanent"),
            &json!(1)
        )
    );
    assert_eq!(
        (&letter["recoveries"], &letter["retry_at"]),
        (&json!(0), &Value::Null)
    );
    let event = letter["event"]["id"].as_str().unwrap();
    let expected = format!("transaction:submitted {event}: transaction_unknown");
    assert_eq!(audited(&finance, group).await, [expected]);
    // Others are not held up by it.
    finance.deposits("ada", "50").await;
    let id = finance.sends("ada", "bob", "20").await;
    assert_eq!(finance.ended(&id).await["status"], "completed");
    assert_eq!(letters(&finance, group).await.len(), 1);
    pager.running.shutdown().await;
}
