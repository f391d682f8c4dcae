//! The journal in memory keeps what every journal has to.

use std::sync::Arc;

use trunkline_core::Env;
use trunkline_saga::MemoryJournal;
use trunkline_testkit::journal::{Bench, cases};

#[tokio::test]
async fn memory_is_a_journal() {
    for case in cases() {
        println!("{}", case.name);
        let (env, clock) = Env::manual(7);
        let bench = Bench::new(Arc::new(MemoryJournal::new(env)), clock);
        (case.run)(bench).await;
    }
}
