//! A world that sagas change, and the engines that run them in it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use trunkline_core::{Env, Error, Result};
use trunkline_saga::{
    At, Begin, Definition, Engine, Instance, MemoryJournal, Plain, Probe, Record, Saga, Settings,
    Which,
};

/// What steps did: by name, the keys under which it was done and undone. Each counts once.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<Done>>);

#[derive(Default)]
struct Done {
    done: BTreeMap<String, BTreeSet<String>>,
    undone: BTreeSet<String>,
    /// In the order in which it happened first.
    story: Vec<String>,
    /// How often a step fails before it succeeds.
    failures: BTreeMap<String, Vec<Error>>,
}

impl World {
    /// Lets the next attempts of a step fail so.
    pub(crate) fn fails(&self, step: &str, errors: impl IntoIterator<Item = Error>) {
        let mut errors: Vec<Error> = errors.into_iter().collect();
        errors.reverse();
        self.0.lock().failures.insert(step.to_owned(), errors);
    }

    /// Does what a step does, once for each key.
    pub(crate) fn does(&self, at: &At) -> Result<String> {
        let mut kept = self.0.lock();
        if let Some(error) = kept.failures.get_mut(&*at.name).and_then(Vec::pop) {
            return Err(error);
        }
        let keys = kept.done.entry(at.name.to_string()).or_default();
        if keys.insert(at.idempotency_key()) {
            kept.story.push(at.name.to_string());
        }
        Ok(format!("{}-done", at.name))
    }

    /// Takes it back, once. Where it was never done there is nothing to take back.
    pub(crate) fn undoes(&self, at: &At) -> Result<()> {
        let mut kept = self.0.lock();
        let name = format!("undo {}", at.name);
        if let Some(error) = kept.failures.get_mut(&name).and_then(Vec::pop) {
            return Err(error);
        }
        let key = at.idempotency_key();
        let of = key.trim_end_matches(":undo");
        let was = kept
            .done
            .get(&*at.name)
            .is_some_and(|keys| keys.contains(of));
        if was && kept.undone.insert(of.to_owned()) {
            kept.story.push(name);
        }
        Ok(())
    }

    /// What happened, in order.
    pub(crate) fn story(&self) -> Vec<String> {
        self.0.lock().story.clone()
    }

    pub(crate) fn tells(&self, what: impl Into<String>) {
        self.0.lock().story.push(what.into());
    }

    /// How often a step's effect stands now: done and not undone.
    pub(crate) fn stands(&self, step: &str) -> usize {
        let kept = self.0.lock();
        let Some(keys) = kept.done.get(step) else {
            return 0;
        };
        keys.iter()
            .filter(|key| !kept.undone.contains(*key))
            .count()
    }
}

/// A step of the world, with its compensation.
pub(crate) async fn step(saga: &Saga<Plain>, world: &World, name: &'static str) -> Result<String> {
    let (does, undoes) = (world.clone(), world.clone());
    saga.step(name)
        .undo(move |at: At, _: Option<String>| {
            let undone = undoes.undoes(&at);
            async move { undone }
        })
        .run(move |at| {
            let done = does.does(&at);
            async move { done }
        })
        .await
}

/// A step of the world that nothing takes back.
pub(crate) async fn plain(saga: &Saga<Plain>, world: &World, name: &'static str) -> Result<String> {
    let does = world.clone();
    let run = saga.step(name).run(move |at| {
        let done = does.does(&at);
        async move { done }
    });
    run.await
}

pub(crate) fn away() -> Error {
    Error::unavailable("away", "it is away")
}

pub(crate) fn refused() -> Error {
    Error::conflict("refused", "it is refused")
}

/// A clock that follows the runtime's, so that a paused one passes at once.
pub(crate) fn env() -> Env {
    let begun = Instant::now();
    Env::seeded_with_clock(7, move || {
        Timestamp::constant(1_767_225_600, 0) + begun.elapsed()
    })
}

/// A process with an engine.
pub(crate) struct Process {
    pub(crate) engine: Engine<Plain>,
    stop: Option<oneshot::Sender<()>>,
    tasks: JoinSet<Result<()>>,
}

impl Process {
    pub(crate) fn new(
        journal: &Arc<MemoryJournal>,
        env: &Env,
        definitions: impl IntoIterator<Item = Definition<Plain>>,
    ) -> Self {
        Self::with(journal, env, (definitions, Settings::default(), None))
    }

    pub(crate) fn with(
        journal: &Arc<MemoryJournal>,
        env: &Env,
        how: (
            impl IntoIterator<Item = Definition<Plain>>,
            Settings,
            Option<Arc<dyn Probe>>,
        ),
    ) -> Self {
        let engine = Engine::probed(Plain, journal.clone(), env.clone(), how).unwrap();
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        let runs = engine.clone();
        tasks.spawn(async move {
            let stopped = async move { drop(stopped.await) };
            runs.run(stopped).await
        });
        Self {
            engine,
            stop: Some(stop),
            tasks,
        }
    }

    /// Ends it in order.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.tasks.join_next().await.unwrap().unwrap().unwrap();
    }

    /// Ends it as a crash does: everything that it did is dropped where it stands.
    pub(crate) async fn dies(mut self) {
        self.tasks.shutdown().await;
    }

    pub(crate) async fn start(&self, saga: &str, key: &str) -> Instance {
        self.engine
            .start(saga, key, &key, Begin::flow(key))
            .await
            .unwrap()
    }

    /// Starts an instance and waits until it is settled.
    pub(crate) async fn runs(&self, saga: &str, key: &str) -> Record {
        let started = self.start(saga, key).await;
        self.settled(&Which::Id(started.id)).await
    }

    pub(crate) async fn settled(&self, which: &Which) -> Record {
        within(self.engine.settled(which)).await.unwrap();
        self.engine.show(which).await.unwrap()
    }
}

/// Longer than anything in these tests takes.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(3600 * 24 * 30);
    tokio::time::timeout(limit, what).await.expect("it ends")
}

/// A fresh journal with one process.
pub(crate) fn one(
    definitions: impl IntoIterator<Item = Definition<Plain>>,
) -> (Arc<MemoryJournal>, Process) {
    let env = env();
    let journal = Arc::new(MemoryJournal::new(env.clone()));
    let process = Process::new(&journal, &env, definitions);
    (journal, process)
}
