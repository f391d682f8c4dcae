//! Every planted bug, and which case of the suite finds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use trunkline_bus::Transport;
use trunkline_core::{Env, Result};
use trunkline_testkit::conformance::{Engine, judge};

use crate::bugs::{ALL, Bug};
use crate::desk::Planted;

struct With(Bug);

impl Engine for With {
    fn open(&self, env: Env) -> BoxFuture<'_, Result<Arc<dyn Transport>>> {
        let planted = Arc::new(Planted::new(self.0, env)) as Arc<dyn Transport>;
        std::future::ready(Ok(planted)).boxed()
    }
}

/// A bug that takes something away makes a case wait for so long.
const COMES: Duration = Duration::from_secs(1);

#[test]
fn a_sound_engine_passes() {
    let comes = Duration::from_secs(20);
    let failed = judge(|| With(Bug::None), comes, usize::MAX);
    let failed = failed.iter().filter(|verdict| verdict.failure.is_some());
    assert_eq!(
        failed.map(|verdict| verdict.case).collect::<Vec<_>>(),
        [""; 0]
    );
}

#[test]
fn every_planted_bug_is_found() {
    let next = AtomicUsize::new(0);
    let unfound = parking_lot::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(bug) = ALL.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let verdicts = judge(|| With(*bug), COMES, 1);
                    match verdicts.iter().find(|verdict| verdict.failure.is_some()) {
                        Some(found) => eprintln!("{bug:?}: {}", found.case),
                        None => unfound.lock().push(*bug),
                    }
                }
            });
        }
    });
    let unfound = unfound.into_inner();
    assert!(unfound.is_empty(), "not found: {unfound:?}");
}
