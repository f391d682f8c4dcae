use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use trunkline_core::Clock;

use super::*;
use crate::keys::header;
use crate::{Secret, Signer};

/// A publisher that can be away.
#[derive(Default)]
struct Publisher {
    document: Mutex<Option<String>>,
    asked: AtomicUsize,
    hangs: bool,
    fresh_for: Option<Duration>,
}

impl KeyPublisher for Publisher {
    fn fetch(&self) -> BoxFuture<'_, Result<Published>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.hangs {
                std::future::pending::<()>().await;
            }
            let document = self.document.lock().clone();
            let document = document.ok_or_else(|| Error::unavailable("away", "away"))?;
            Ok(Published {
                document,
                fresh_for: self.fresh_for,
            })
        })
    }
}

struct Place {
    publisher: Arc<Publisher>,
    keys: RemoteKeys,
    clock: Clock,
}

fn place(publisher: Publisher) -> Place {
    let (env, clock) = Env::manual(1);
    let publisher = Arc::new(publisher);
    let policy = RemoteKeysPolicy::default();
    let keys = RemoteKeys::new(publisher.clone(), policy, env);
    Place {
        publisher,
        keys,
        clock,
    }
}

fn signer(byte: u8) -> Signer {
    Signer::ed25519(&Secret::new([byte; 32]).unwrap()).unwrap()
}

impl Place {
    fn publish(&self, signers: &[u8]) {
        let keys = signers
            .iter()
            .map(|byte| signer(*byte).jwks()["keys"][0].clone());
        let document = json!({ "keys": keys.collect::<Vec<_>>() }).to_string();
        *self.publisher.document.lock() = Some(document);
    }

    /// What becomes of a token of this signer.
    async fn token(&self, by: u8) -> String {
        let token = signer(by).sign_typed("t", &json!({})).unwrap();
        let header = header(&token).unwrap();
        let verified = match self.keys.for_token(&header).await {
            Ok(keys) => keys.open::<serde_json::Value>(&token, &header),
            Err(error) => Err(error),
        };
        verified.map_or_else(|error| error.code().to_owned(), |_| "verified".to_owned())
    }

    fn asked(&self) -> usize {
        self.publisher.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_document_is_kept_and_a_new_key_is_asked_for() {
    let place = place(Publisher::default());
    place.publish(&[1]);
    for _ in 0..3 {
        assert_eq!(place.token(1).await, "verified");
    }
    assert_eq!(place.asked(), 1);
    place.publish(&[1, 2]);
    place.clock.advance(Duration::from_secs(10));
    assert_eq!(place.token(2).await, "verified");
    assert_eq!(place.asked(), 2);
    place.publish(&[2]);
    place.clock.advance(Duration::from_secs(300));
    assert_eq!(place.token(2).await, "verified");
    assert_eq!(
        place.token(1).await,
        "token_forged",
        "it is published no longer"
    );
}

#[tokio::test]
async fn made_up_key_ids_cost_the_publisher_nothing() {
    let place = place(Publisher::default());
    place.publish(&[1]);
    assert_eq!(place.token(1).await, "verified");
    for by in 10..200 {
        assert_eq!(place.token(by).await, "token_forged");
    }
    assert_eq!(place.asked(), 1);
    place.clock.advance(Duration::from_secs(10));
    for by in 10..200 {
        assert_eq!(place.token(by).await, "token_forged");
    }
    assert_eq!(place.asked(), 2);
    assert_eq!(place.token(1).await, "verified");
}

#[tokio::test]
async fn the_last_known_keys_are_taken_while_the_publisher_is_away() {
    let place = place(Publisher::default());
    assert_eq!(place.token(1).await, "keys_unavailable");
    place.publish(&[1]);
    assert_eq!(
        place.token(1).await,
        "keys_unavailable",
        "it was asked a moment ago"
    );
    place.clock.advance(Duration::from_secs(10));
    assert_eq!(place.token(1).await, "verified");
    for nonsense in [None, Some("{}".to_owned()), Some("x".repeat(70_000))] {
        *place.publisher.document.lock() = nonsense;
        place.clock.advance(Duration::from_secs(3600));
        assert_eq!(place.token(1).await, "verified");
    }
    place.clock.advance(Duration::from_secs(21 * 3600));
    assert_eq!(place.token(1).await, "keys_unavailable", "a day is enough");
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_hangs_is_not_waited_for_again_and_again() {
    let place = place(Publisher {
        hangs: true,
        ..Publisher::default()
    });
    let began = tokio::time::Instant::now();
    let (first, second) = tokio::join!(place.token(1), place.token(1));
    assert_eq!([first, second], ["keys_unavailable", "keys_unavailable"]);
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    assert_eq!(place.asked(), 1);
}

#[tokio::test]
async fn stale_keys_serve_while_new_ones_are_fetched_beside() {
    let place = place(Publisher {
        fresh_for: Some(Duration::from_secs(60)),
        ..Publisher::default()
    });
    let token = signer(1).sign_typed("t", &json!({ "a": 1 })).unwrap();
    let open = || place.keys.open_known::<serde_json::Value>(&token);
    assert_eq!(open().unwrap(), Opened::Unknown);
    place.publish(&[1]);
    assert_eq!(
        place.keys.open::<serde_json::Value>(&token).await.unwrap()["a"],
        1
    );
    assert!(matches!(open(), Ok(Opened::Fresh(_))));
    place.clock.advance(Duration::from_secs(60));
    assert!(
        matches!(open(), Ok(Opened::Stale(_))),
        "as long as the publisher says"
    );
    let refreshing = place.keys.refreshing().expect("it is time");
    assert!(place.keys.refreshing().is_none(), "one at a time");
    refreshing.await;
    assert!(place.keys.refreshing().is_none(), "that was a moment ago");
    assert!(matches!(open(), Ok(Opened::Fresh(_))));
    assert_eq!(place.asked(), 2);
}

#[tokio::test]
async fn what_a_publisher_says_of_its_age_has_bounds() {
    for (told, fresh) in [(0, 10), (u64::MAX, 24 * 3600)] {
        let place = place(Publisher {
            fresh_for: Some(Duration::from_secs(told)),
            ..Publisher::default()
        });
        place.publish(&[1]);
        assert_eq!(place.token(1).await, "verified");
        let token = signer(1).sign_typed("t", &json!({})).unwrap();
        let open = || place.keys.open_known::<serde_json::Value>(&token).unwrap();
        place.clock.advance(Duration::from_secs(fresh - 1));
        assert!(matches!(open(), Opened::Fresh(_)), "{told}");
        place.clock.advance(Duration::from_secs(1));
        assert!(!matches!(open(), Opened::Fresh(_)), "{told}");
    }
}

#[tokio::test]
async fn a_token_of_another_algorithm_is_forged_and_fetches_nothing() {
    let place = place(Publisher::default());
    place.publish(&[1]);
    let secret = Secret::new([7; 32]).unwrap();
    let token = Signer::hs256(&secret).sign_typed("t", &json!({})).unwrap();
    let error = place.keys.open::<serde_json::Value>(&token).await;
    assert_eq!(error.unwrap_err().code(), "token_forged");
    assert_eq!(place.asked(), 0);
}
