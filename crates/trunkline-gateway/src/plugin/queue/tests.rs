use std::sync::atomic::AtomicUsize;

use super::*;

/// Takes batches, after it has failed so often.
#[derive(Default)]
struct Place {
    came: Mutex<Vec<Vec<String>>>,
    fails: AtomicUsize,
    hopeless: AtomicBool,
}

impl Sink<String> for Arc<Place> {
    fn send<'a>(&'a self, batch: &'a [String]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            if self.hopeless.load(Ordering::Relaxed) {
                return Err(Error::invalid("no", "no"));
            }
            let fails = self
                .fails
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                });
            if fails.is_ok() {
                return Err(Error::unavailable("away", "away"));
            }
            self.came.lock().push(batch.to_vec());
            Ok(())
        })
    }
}

struct Kit {
    queue: Queue<String>,
    place: Arc<Place>,
    workers: Workers,
}

fn kit(settings: Settings) -> Kit {
    let (place, workers) = (Arc::new(Place::default()), Workers::default());
    let policy = settings.check().unwrap();
    let queue = Queue::new("test", "all", policy, place.clone(), &workers);
    Kit {
        queue,
        place,
        workers,
    }
}

impl Kit {
    fn push(&self, names: &[&str]) {
        for name in names {
            self.queue.push((*name).to_owned());
        }
    }

    fn came(&self) -> Vec<String> {
        let came = self.place.came.lock();
        came.iter().map(|batch| batch.join("+")).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_goes_when_it_is_full_or_when_its_time_is_over() {
    let kit = kit(Settings {
        max_batch_size: 2,
        max_coalescing_delay: 5.0,
        ..Settings::default()
    });
    kit.push(&["a", "b", "c"]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(kit.came(), ["a+b"]);
    sleep(Duration::from_secs(5)).await;
    assert_eq!(kit.came(), ["a+b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_pushes_out_the_oldest() {
    let kit = kit(Settings {
        max_batch_size: 10,
        max_entries: 3,
        max_bytes: Some(4),
        ..Settings::default()
    });
    kit.push(&["a", "b", "c", "d"]);
    kit.push(&["ee"]);
    kit.push(&["longer than all"]);
    assert!(kit.workers.flush(Duration::from_secs(1)).await);
    assert!(
        kit.came().is_empty(),
        "what is too long for itself goes, too"
    );
    kit.push(&["a", "b", "c", "d"]);
    assert!(kit.workers.flush(Duration::from_secs(1)).await);
    assert_eq!(kit.came(), ["b+c+d"]);
}

#[tokio::test(start_paused = true)]
async fn a_place_is_tried_again_until_the_time_is_over_but_not_one_that_says_no() {
    let kit = kit(Settings {
        max_retry_time: 10.0,
        initial_retry_delay: 1.0,
        max_retry_delay: 2.0,
        ..Settings::default()
    });
    kit.place.fails.store(3, Ordering::Relaxed);
    kit.push(&["a"]);
    sleep(Duration::from_secs(4)).await;
    assert!(kit.came().is_empty(), "after 1, 2 and 2 seconds");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(kit.came(), ["a"]);
    kit.place.fails.store(1_000, Ordering::Relaxed);
    kit.push(&["lost"]);
    sleep(Duration::from_secs(11)).await;
    kit.place.fails.store(0, Ordering::Relaxed);
    kit.place.hopeless.store(true, Ordering::Relaxed);
    kit.push(&["refused"]);
    sleep(Duration::from_millis(1)).await;
    kit.place.hopeless.store(false, Ordering::Relaxed);
    kit.push(&["b"]);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(kit.came(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_sent_when_it_is_flushed_or_let_go() {
    let slow = Settings {
        max_batch_size: 2,
        max_coalescing_delay: 3_600.0,
        ..Settings::default()
    };
    let one = kit(slow);
    one.push(&["a", "b", "c"]);
    assert!(one.workers.flush(Duration::from_secs(1)).await);
    assert_eq!(one.came(), ["a+b", "c"]);
    one.push(&["d"]);
    let Kit {
        queue,
        place,
        workers,
    } = one;
    drop(queue);
    assert!(workers.flush(Duration::from_secs(1)).await);
    assert_eq!(place.came.lock().last().unwrap(), &["d"]);
    let away = kit(slow);
    away.place.fails.store(usize::MAX, Ordering::Relaxed);
    away.push(&["a"]);
    assert!(
        !away.workers.flush(Duration::from_secs(1)).await,
        "at most so long"
    );
}
