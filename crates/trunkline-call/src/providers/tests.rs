use std::sync::atomic::{AtomicU32, Ordering};

use futures::FutureExt;
use futures::future::pending;
use tokio::time::advance;
use trunkline_core::ErrorKind;

use super::*;

/// A provider whose answers are set by the test.
struct Bank {
    fee: Mutex<Result<f64>>,
    send: Mutex<Result<()>>,
    hangs: Mutex<bool>,
    asked: AtomicU32,
    sent: AtomicU32,
    given_up: Arc<AtomicU32>,
}

struct GivenUp(Arc<AtomicU32>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bank {
    fn new(fee: f64) -> Arc<Self> {
        Arc::new(Self {
            fee: Mutex::new(Ok(fee)),
            send: Mutex::new(Ok(())),
            hangs: Mutex::new(false),
            asked: AtomicU32::new(0),
            sent: AtomicU32::new(0),
            given_up: Arc::default(),
        })
    }

    async fn quote(self: Arc<Self>) -> Result<f64> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if *self.hangs.lock() {
            let _guard = GivenUp(self.given_up.clone());
            pending::<()>().await;
        }
        again(&*self.fee.lock())
    }

    async fn send(self: Arc<Self>, _: f64) -> Result<()> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        again(&*self.send.lock())
    }

    fn counts(&self) -> (u32, u32) {
        (
            self.asked.load(Ordering::Relaxed),
            self.sent.load(Ordering::Relaxed),
        )
    }
}

fn again<T: Copy>(result: &Result<T>) -> Result<T> {
    match result {
        Ok(value) => Ok(*value),
        Err(error) => {
            Err(Error::new(error.kind(), error.code().to_owned(), "no").with_retry(error.retry()))
        }
    }
}

fn away() -> Error {
    Error::unavailable("away", "no")
}

fn banks(config: ProvidersConfig) -> (Providers<Bank>, Vec<Arc<Bank>>) {
    let providers = Providers::new("bank", config, Env::seeded(1));
    let all = [3.0, 1.0, 2.0].map(Bank::new).to_vec();
    for (name, bank) in ["three", "one", "two"].into_iter().zip(&all) {
        providers.register(name, bank.clone()).unwrap();
    }
    (providers, all)
}

async fn send(banks: &Providers<Bank>) -> Result<ByteString> {
    let done = banks.run(Bank::quote, |fee| *fee, Bank::send).await?;
    Ok(done.provider)
}

#[tokio::test(start_paused = true)]
async fn the_cheapest_does_it_and_the_next_when_it_fails() {
    let (providers, all) = banks(ProvidersConfig::default());
    let mut events = providers.events();
    assert_eq!(send(&providers).await.unwrap(), "one");
    *all[1].send.lock() = Err(away());
    assert_eq!(send(&providers).await.unwrap(), "two");
    let event = events.recv().await.unwrap();
    assert!(
        matches!(event, ProviderEvent::Unwell { ref provider, failures: 1, .. } if provider == "one")
    );
    let event = events.recv().await.unwrap();
    assert_eq!(
        event,
        ProviderEvent::FailedOver {
            provider: "one".into()
        }
    );
    // It is asked nothing until its time is up.
    let asked = all[1].counts();
    assert_eq!(send(&providers).await.unwrap(), "two");
    assert_eq!(all[1].counts(), asked);
    *all[1].send.lock() = Ok(());
    advance(Duration::from_millis(1_200)).await;
    assert_eq!(send(&providers).await.unwrap(), "one");
    let event = events.recv().await.unwrap();
    assert_eq!(
        event,
        ProviderEvent::Well {
            provider: "one".into()
        }
    );
}

#[tokio::test(start_paused = true)]
async fn late_quotes_are_ignored_and_their_work_is_dropped() {
    let (providers, all) = banks(ProvidersConfig::default());
    *all[1].hangs.lock() = true;
    let began = Instant::now();
    assert_eq!(send(&providers).await.unwrap(), "two");
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    assert_eq!(all[1].given_up.load(Ordering::Relaxed), 1);
    // Known to be late, it holds nobody up.
    let began = Instant::now();
    assert_eq!(send(&providers).await.unwrap(), "two");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_done_is_done_nowhere_else_unless_it_may_be() {
    for repeatable in [false, true] {
        let config = ProvidersConfig {
            repeatable,
            ..ProvidersConfig::default()
        };
        let (providers, all) = banks(config);
        *all[1].send.lock() = Err(away().with_retry(Retry::Unknown));
        let sent = send(&providers).await;
        assert_eq!(sent.is_ok(), repeatable);
        assert_eq!(all[2].counts().1, u32::from(repeatable));
        let health = &providers.health()[1];
        assert!(
            !health.is_well && health.asked_again_in.is_some(),
            "{health:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_wrong_is_nobodys_failure() {
    let (providers, all) = banks(ProvidersConfig::default());
    *all[1].send.lock() = Err(Error::invalid("amount_invalid", "no"));
    let error = send(&providers).await.unwrap_err();
    assert_eq!(error.code(), "amount_invalid");
    assert_eq!(all[2].counts().1, 0);
    assert!(providers.health().iter().all(|health| health.is_well));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_left_and_nobody_is_there_is_unavailable() {
    let (providers, all) = banks(ProvidersConfig::default());
    for bank in &all {
        *bank.fee.lock() = Err(away());
    }
    for _ in 0..2 {
        let error = send(&providers).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Unavailable, "providers_unavailable")
        );
    }
    assert!(all.iter().all(|bank| bank.counts() == (1, 0)));
    // All of them fail at the work: not more are tried than may be.
    let config = ProvidersConfig {
        attempts_max: 2,
        ..ProvidersConfig::default()
    };
    let (providers, all) = banks(config);
    for bank in &all {
        *bank.send.lock() = Err(away());
    }
    assert_eq!(send(&providers).await.unwrap_err().code(), "away");
    assert_eq!(all.iter().map(|bank| bank.counts().1).sum::<u32>(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_time_out_grows_and_a_probe_brings_it_back() {
    let (providers, all) = banks(ProvidersConfig::default());
    *all[1].fee.lock() = Err(away());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let probed = Mutex::new(Vec::new());
    let began = Instant::now();
    let probe = |bank: Arc<Bank>| {
        probed.lock().push(began.elapsed().as_secs_f64());
        async move { bank.quote().await.map(drop) }
    };
    let watching = providers.probe(probe, stopped.map(drop));
    let story = async {
        providers.report("one", false);
        sleep(Duration::from_secs(40)).await;
        *all[1].fee.lock() = Ok(1.0);
        sleep(Duration::from_secs(40)).await;
        assert!(providers.health()[1].is_well);
        drop(stop);
    };
    tokio::join!(watching, story);
    let probed = probed.into_inner();
    // After about 1, 2, 4, 8, 16 and 32 seconds, and not after it was back.
    assert_eq!(probed.len(), 6, "{probed:?}");
    assert!(
        probed.windows(2).all(|pair| pair[1] > pair[0] * 1.8),
        "{probed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_may_be_back_is_asked_by_one_caller_at_a_time() {
    let (providers, all) = banks(ProvidersConfig::default());
    providers.report("one", false);
    advance(Duration::from_millis(1_200)).await;
    *all[1].hangs.lock() = true;
    let both = tokio::join!(providers.quotes(Bank::quote), providers.quotes(Bank::quote));
    assert_eq!((both.0.len(), both.1.len(), all[1].counts().0), (2, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_cost_that_is_no_number_is_the_worst() {
    let (providers, all) = banks(ProvidersConfig::default());
    *all[1].fee.lock() = Ok(f64::NAN);
    assert_eq!(send(&providers).await.unwrap(), "two");
    providers.remove("two");
    providers.remove("three");
    assert_eq!(send(&providers).await.unwrap(), "one");
}

#[test]
fn there_is_a_bound_and_a_name_is_replaced() {
    let providers = Providers::new("bank", ProvidersConfig::default(), Env::seeded(1));
    for number in 0..PROVIDERS_MAX {
        providers
            .register(number.to_string(), Bank::new(1.0))
            .unwrap();
    }
    providers.register("0", Bank::new(1.0)).unwrap();
    let error = providers.register("more", Bank::new(1.0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(providers.health().len(), PROVIDERS_MAX);
}
