//! Messages that come at a bad moment: they are seen at once all the same, and in any case before a wait's end.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use trunkline_core::Result;
use trunkline_saga::{
    Begin, Change, Claim, Claimed, Data, Definition, Engine, Instance, Journal, MemoryJournal,
    Message, Plain, Query, Record, Saga, Settings, State, Went, Which, Write, Written,
};

use crate::world::{env, within};

/// Where the journal stops until it may go on: what it was asked is done, and not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Load,
    Release,
}

/// A journal whose next answer of one sort is held up.
#[derive(Debug)]
struct Slow {
    journal: MemoryJournal,
    stop: Mutex<Option<Stop>>,
    stopped: Notify,
    go: Notify,
}

impl Slow {
    async fn answers(&self, what: Stop) {
        let stops = self.stop.lock().take_if(|stop| *stop == what);
        if stops.is_some() {
            self.stopped.notify_one();
            self.go.notified().await;
        }
    }
}

fn releases(write: &Write) -> bool {
    let released = |change: &Change| change.release && change.state == State::Waiting;
    matches!(write, Write::Went(Went { change: Some(change), .. }) if released(change))
}

impl Journal for Slow {
    fn write<'a>(&'a self, batch: &'a [Write]) -> BoxFuture<'a, Result<Vec<Written>>> {
        async move {
            let written = self.journal.write(batch).await;
            if batch.iter().any(releases) {
                self.answers(Stop::Release).await;
            }
            written
        }
        .boxed()
    }

    fn load<'a>(&'a self, which: &'a Which) -> BoxFuture<'a, Result<Option<Record>>> {
        async move {
            let record = self.journal.load(which).await;
            self.answers(Stop::Load).await;
            record
        }
        .boxed()
    }

    fn claim<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Claimed>> {
        self.journal.claim(claim)
    }

    fn list<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Vec<Instance>>> {
        self.journal.list(query)
    }
}

/// An engine that looks into its journal once an hour, unless somebody asks.
struct Sample {
    journal: Arc<Slow>,
    engine: Engine<Plain>,
    _runs: JoinSet<Result<()>>,
}

impl Sample {
    fn new(stop: Option<Stop>, waits: Duration) -> Self {
        let env = env();
        let journal = Arc::new(Slow {
            journal: MemoryJournal::new(env.clone()),
            stop: Mutex::new(stop),
            stopped: Notify::new(),
            go: Notify::new(),
        });
        let order =
            Definition::named("order").version(1, move |saga: Saga<Plain>, (): ()| async move {
                let said = saga.signal::<String>("paid", waits).await?;
                Ok(said.unwrap_or_else(|| "nobody".to_owned()))
            });
        let mut settings = Settings::default();
        settings.poll = Duration::from_secs(3600);
        settings.lease = Duration::from_secs(24 * 3600);
        let engine = Engine::new(Plain, journal.clone(), env, [order], settings).unwrap();
        let mut runs = JoinSet::new();
        let running = engine.clone();
        runs.spawn(async move { running.run(std::future::pending()).await });
        Self {
            journal,
            engine,
            _runs: runs,
        }
    }

    /// One that is in the journal, as another process left it there, and is taken up.
    async fn starts(&self) -> Which {
        let starting = self.engine.starting("order", "o", &(), Begin::flow("o"));
        let starting = starting.unwrap();
        let which = Which::Id(starting.id);
        self.journal.write(&[Write::Start(starting)]).await.unwrap();
        self.engine.poke();
        which
    }

    async fn gave(&self, which: &Which) -> String {
        let ended = within(self.engine.settled(which)).await.unwrap();
        ended.output.unwrap().get().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_while_the_instance_is_read_is_seen_at_once() {
    let sample = Sample::new(Some(Stop::Load), Duration::from_millis(900));
    let which = sample.starts().await;
    sample.journal.stopped.notified().await;
    let signal = ("paid", &"Ada");
    sample
        .engine
        .signal(which.clone(), "s", signal)
        .await
        .unwrap();
    let begun = Instant::now();
    sample.journal.go.notify_one();
    assert_eq!(sample.gave(&which).await, "Ada");
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_while_the_instance_is_given_away_is_seen_at_once() {
    let day = Duration::from_secs(24 * 3600);
    let sample = Sample::new(Some(Stop::Release), day);
    let which = sample.starts().await;
    sample.journal.stopped.notified().await;
    // The engine's own writer waits for the journal: this is told, and answered after the release.
    let tells = sample.engine.signal(which.clone(), "s", ("paid", &"Ada"));
    let begun = Instant::now();
    let (told, ()) = futures::join!(tells, async { sample.journal.go.notify_one() });
    told.unwrap();
    assert_eq!(sample.gave(&which).await, "Ada");
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn one_of_another_process_counts_when_it_was_told_in_time() {
    let sample = Sample::new(None, Duration::from_millis(900));
    let which = sample.starts().await;
    let begun = Instant::now();
    within(async {
        while sample
            .engine
            .show(&which)
            .await
            .unwrap()
            .instance
            .owner
            .is_none()
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let message = Message {
        id: "s".into(),
        name: "paid".into(),
        data: Data::of("Ada").unwrap(),
        at: env().now(),
    };
    let told = Write::Tell(which.clone(), message);
    sample.journal.write(&[told]).await.unwrap();
    assert_eq!(sample.gave(&which).await, "Ada");
    assert_eq!(begun.elapsed(), Duration::from_millis(900));
}
