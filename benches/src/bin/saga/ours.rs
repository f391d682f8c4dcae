//! The engine alone, with its journal in a file.

use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use trunkline_core::{Env, Error, Result};
use trunkline_saga::{At, Begin, Definition, Engine, Plain, Saga, Settings, State, Which};
use trunkline_store::Store;

use crate::load::Way;

/// An order as the saga is given it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) fails: bool,
}

/// An engine that runs, and its store.
pub(crate) struct Running {
    pub(crate) engine: Engine<Plain>,
    pub(crate) store: Store,
    end: Mutex<Option<(oneshot::Sender<()>, JoinSet<Result<()>>)>>,
}

impl Running {
    pub(crate) async fn start(folder: &Path, sagas: Vec<Definition<Plain>>) -> Self {
        let url = format!("sqlite:{}/sagas.db", folder.display());
        let env = Env::system();
        let store = Store::open(&url, "bench", env.clone())
            .await
            .expect("a store");
        let journal = Arc::new(store.sagas());
        let engine = Engine::new(Plain, journal, env, sagas, Settings::default());
        let engine = engine.expect("an engine");
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        let runs = engine.clone();
        tasks.spawn(async move { runs.run(stopped.map(drop)).await });
        Self {
            engine,
            store,
            end: Mutex::new(Some((stop, tasks))),
        }
    }

    pub(crate) async fn stop(&self) {
        let end = self.end.lock().take();
        if let Some((stop, tasks)) = end {
            stop.send(()).ok();
            tasks.join_all().await;
        }
        self.store.close().await;
    }
}

/// The order saga on the engine.
pub(crate) struct Ours(Running);

impl Ours {
    pub(crate) async fn start(folder: &Path) -> Self {
        let order = Definition::named("order").version(1, order);
        Self(Running::start(folder, vec![order]).await)
    }
}

impl Way for Ours {
    fn order(&self, n: u64, fails: bool) -> BoxFuture<'_, bool> {
        let id = format!("ord-{n:010}");
        async move {
            let order = Order {
                id: id.clone(),
                fails,
            };
            let engine = &self.0.engine;
            let begin = Begin::flow(id.as_str());
            let started = engine.start("order", &id, &order, begin).await;
            let which = Which::Id(started.expect("a start").id);
            let ended = engine.settled(&which).await.expect("an end");
            ended.state == State::Completed
        }
        .boxed()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.0.stop().boxed()
    }
}

async fn order(saga: Saga<Plain>, order: Order) -> Result<String> {
    saga.step("reserve")
        .undo(|_: At, _: Option<String>| async { Ok(()) })
        .run(|_| async { Ok("rsv-1".to_owned()) })
        .await?;
    let fails = order.fails;
    saga.step("charge")
        .run(move |_| async move {
            if fails {
                return Err(Error::conflict("card_declined", "the card was declined"));
            }
            Ok("pay-1".to_owned())
        })
        .await?;
    for name in ["confirm", "notify"] {
        saga.step::<String>(name)
            .run(|_| async { Ok("ok".to_owned()) })
            .await?;
    }
    Ok("confirmed".to_owned())
}
