//! Two nodes that share a log, here one in memory.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;
use trunkline_core::{Error, Result};
use trunkline_realtime::{Backbone, Offset};
use trunkline_testkit::node;

use crate::server::Server;

#[derive(Default)]
struct Log {
    entries: Mutex<Vec<Bytes>>,
    kept: Mutex<HashMap<String, Bytes>>,
    more: Notify,
    is_away: Mutex<bool>,
}

impl Backbone for Log {
    fn append<'a>(&'a self, entries: &'a [Bytes]) -> BoxFuture<'a, Result<()>> {
        async move {
            self.entries.lock().extend_from_slice(entries);
            self.more.notify_waiters();
            // Whoever has no answer writes it again.
            match std::mem::take(&mut *self.is_away.lock()) {
                true => Err(Error::unavailable("log_away", "no answer")),
                false => Ok(()),
            }
        }
        .boxed()
    }

    fn latest(&self, max: usize) -> BoxFuture<'_, Result<Vec<(Offset, Bytes)>>> {
        async move {
            let entries = numbered(&self.entries.lock());
            let skipped = entries.len().saturating_sub(max);
            Ok(entries.into_iter().skip(skipped).collect())
        }
        .boxed()
    }

    fn read(&self, after: Offset) -> BoxFuture<'_, Result<Vec<(Offset, Bytes)>>> {
        async move {
            loop {
                let more = self.more.notified();
                let new: Vec<_> = numbered(&self.entries.lock())
                    .into_iter()
                    .filter(|(offset, _)| *offset > after)
                    .collect();
                if !new.is_empty() {
                    return Ok(new);
                }
                more.await;
            }
        }
        .boxed()
    }

    fn remember<'a>(
        &'a self,
        key: &'a str,
        value: Bytes,
        _: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        self.kept.lock().insert(key.to_owned(), value);
        async { Ok(()) }.boxed()
    }

    fn recall<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Bytes>>> {
        let kept = self.kept.lock().remove(key);
        async move { Ok(kept) }.boxed()
    }
}

fn numbered(entries: &[Bytes]) -> Vec<(Offset, Bytes)> {
    let numbers = 1..;
    numbers
        .zip(entries)
        .map(|(n, entry)| (Offset(n, 0), entry.clone()))
        .collect()
}

async fn plays(urls: [&str; 2], scenario: &str) {
    let file = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/official.cjs"
    ));
    let mut node = node::script(file);
    node.args([scenario, urls[0], "websocket", urls[1]]);
    let output = tokio::task::spawn_blocking(move || node.output().unwrap())
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{scenario}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_span_nodes_and_who_is_cut_off_comes_back_at_another() {
    let log = Arc::new(Log::default());
    let (one, other) = (Server::start().await, Server::start().await);
    one.realtime.join(log.clone()).await.unwrap();
    other.realtime.join(log.clone()).await.unwrap();
    plays([&one.url, &other.url], "two_nodes").await;
    plays([&one.url, &other.url], "comes_back_at_another").await;

    // A node that begins later knows what was sent before.
    let third = Server::start().await;
    third.realtime.join(log.clone()).await.unwrap();
    plays([&one.url, &third.url], "comes_back_at_another").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_did_not_answer_for_is_sent_once() {
    let log = Arc::new(Log::default());
    let (one, other) = (Server::start().await, Server::start().await);
    one.realtime.join(log.clone()).await.unwrap();
    other.realtime.join(log.clone()).await.unwrap();
    *log.is_away.lock() = true;
    plays([&one.url, &other.url], "heard_once").await;
}
