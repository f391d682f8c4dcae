use std::sync::atomic::{AtomicBool, Ordering};

use trunkline_core::ErrorKind;

use super::*;

#[derive(Default)]
struct Kept {
    entries: Mutex<Vec<AuditEntry>>,
    away: AtomicBool,
    batches: Mutex<Vec<usize>>,
}

impl AuditSink for Kept {
    fn append<'a>(&'a self, entries: &'a [AuditEntry]) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if self.away.load(Ordering::Relaxed) {
                return Err(Error::unavailable("store_unavailable", "away"));
            }
            self.batches.lock().push(entries.len());
            self.entries.lock().extend_from_slice(entries);
            Ok(())
        })
    }
}

impl Kept {
    fn objects(&self) -> Vec<String> {
        let entries = self.entries.lock();
        entries.iter().map(|entry| entry.object.clone()).collect()
    }
}

fn entry(n: usize) -> AuditEntry {
    let outcome = AuditOutcome::Done;
    AuditEntry::new("a", "do", n.to_string(), outcome, &Env::seeded(1))
}

fn small() -> AuditConfig {
    AuditConfig {
        waiting_max: 10,
        batch_max: 4,
        ..AuditConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn entries_are_written_in_order_and_at_the_end_too() {
    let kept = Arc::new(Kept::default());
    let (audit, writer) = Audit::new(kept.clone(), small(), Env::seeded(1));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(writer.run(async move { drop(stopped.await) }));
    for n in 0..3 {
        audit.record(entry(n));
    }
    while kept.entries.lock().len() < 3 {
        tokio::task::yield_now().await;
    }
    for n in 3..9 {
        audit.record(entry(n));
    }
    drop(stop);
    tasks.join_next().await.unwrap().unwrap();
    assert_eq!(
        kept.objects(),
        ["0", "1", "2", "3", "4", "5", "6", "7", "8"]
    );
    assert!(kept.batches.lock().iter().all(|size| *size <= 4));
}

#[tokio::test(start_paused = true)]
async fn what_finds_the_buffer_full_is_counted_where_it_is_missing() {
    let kept = Arc::new(Kept::default());
    kept.away.store(true, Ordering::Relaxed);
    let (audit, writer) = Audit::new(kept.clone(), small(), Env::seeded(1));
    for n in 0..13 {
        audit.record(entry(n));
    }
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(writer.run(async move { drop(stopped.await) }));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(kept.objects().is_empty());
    kept.away.store(false, Ordering::Relaxed);
    tokio::time::sleep(PAUSE_LAST).await;
    drop(stop);
    tasks.join_next().await.unwrap().unwrap();
    let objects = kept.objects();
    assert_eq!(objects.len(), 11);
    assert_eq!(objects[4], "3 entries", "{objects:?}");
    let entries = kept.entries.lock();
    assert_eq!(entries[4].action, "audit.lost");
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_no_longer_than_it_may() {
    let kept = Arc::new(Kept::default());
    kept.away.store(true, Ordering::Relaxed);
    let (audit, writer) = Audit::new(kept, small(), Env::seeded(1));
    audit.record(entry(1));
    let began = tokio::time::Instant::now();
    writer.run(async {}).await;
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    audit.record(entry(2));
    assert!(audit.0.buffer.lock().waiting.is_empty());
}

#[test]
fn an_entry_has_bounds_and_a_refusal_its_reasons() {
    let env = Env::seeded(1);
    let long = AuditEntry::new("ü".repeat(400), "a", "o", AuditOutcome::Done, &env);
    assert!(long.actor.len() <= NAME_BYTES_MAX && long.actor.ends_with('ü'));
    assert_eq!(long.because("x".repeat(5000)).reason.unwrap().len(), 1024);
    let (audit, _writer) = Audit::new(Arc::new(Kept::default()), small(), env);
    let why = Error::new(ErrorKind::Unauthenticated, "token_forged", "no").with_source("its key");
    audit.refused("unknown", "call", "x", &why);
    let buffer = audit.0.buffer.lock();
    let entry = buffer.waiting.front().unwrap();
    assert_eq!(entry.reason.as_deref(), Some("token_forged: no: its key"));
    for outcome in [
        AuditOutcome::Done,
        AuditOutcome::Refused,
        AuditOutcome::Failed,
    ] {
        assert_eq!(AuditOutcome::named(outcome.name()), Some(outcome));
    }
}
