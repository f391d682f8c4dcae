//! Plugins that somebody else wrote.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use trunkline_core::Error;
use trunkline_gateway::{Ended, Exchange, Limits, Means, Plugin, Verdict};
use trunkline_testkit::eventually;

use super::read;
use crate::kit::{Kit, SOON, echo, read_all, start_of};

/// Reads the body and lets it pass if it has a word in it; tells how each request ended.
#[derive(Debug)]
struct Word {
    word: String,
    ends: Arc<Mutex<Vec<String>>>,
}

impl Plugin for Word {
    fn access(&self, exchange: &mut Exchange) -> Verdict {
        match exchange.body_bytes {
            Some(0) => Verdict::Next,
            _ => Verdict::Later,
        }
    }

    fn wait<'a>(&'a self, exchange: &'a mut Exchange) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            if self.word == "never" {
                std::future::pending::<()>().await;
            }
            let body = match exchange.read_body(1_000).await {
                Ok(body) => body,
                Err(error) => return Verdict::Refuse(error),
            };
            let text = String::from_utf8_lossy(&body).into_owned();
            match text.contains(&self.word) {
                true => Verdict::Next,
                false => Verdict::Refuse(Error::invalid("word_missing", "expected a word")),
            }
        })
    }

    fn hears_ends(&self) -> bool {
        true
    }

    fn ended(&self, ended: &Ended<'_>) {
        assert_ne!(self.word, "panics", "told");
        let end = format!(
            "{} {} {} in {} out {} {:?} {:?}",
            ended.method,
            ended.uri,
            ended.status.as_u16(),
            ended.bytes_in,
            ended.bytes_out > 0,
            ended.service_status.map(|status| status.as_u16()),
            ended.cut_off,
        );
        self.ends.lock().push(end);
    }
}

async fn kit(ends: &Arc<Mutex<Vec<String>>>) -> Kit {
    let file = "
services: [{name: echo, routes: [{name: api, paths: [/api], plugins: [{name: word, config: tea}]},
  {name: never, paths: [/never], plugins: [{name: word, config: never}]},
  {name: panics, paths: [/panics], plugins: [{name: word, config: panics}]}]}]
plugins: [{name: request-transformer, config: {add: {headers: ['x-after:1']}}}]";
    let ends = ends.clone();
    let make = move |config: Value| {
        let word = config.as_str().ok_or("expected a word")?.to_owned();
        let ends = ends.clone();
        Ok(Arc::new(Word { word, ends }) as Arc<dyn Plugin>)
    };
    let means = |verifier| Means::from(Some(verifier)).plugin("word", 500, make);
    start_of(read(file), echo(), Limits::default(), means).await
}

#[tokio::test]
async fn a_plugin_reads_a_body_that_goes_on_and_hears_how_it_ended() {
    let ends = Arc::default();
    let kit = kit(&ends).await;
    let answer = kit.send("POST /api/a?b=c", "", "some tea").await;
    assert_eq!(
        (answer.status, &answer.json()["body_bytes"]),
        (200, &8.into())
    );
    kit.send("POST /api", "", "coffee")
        .await
        .is_problem(422, "word_missing");
    let long = "x".repeat(1_001);
    kit.send("POST /api", "", &long)
        .await
        .is_problem(413, "body_too_large");
    assert_eq!(kit.get("/api").await.status, 200);
    eventually(SOON, async || ends.lock().len() == 4).await;
    let told = [
        "POST /api/a?b=c 200 in 8 out true Some(200) None",
        "POST /api 422 in 6 out true None None",
        "POST /api 413 in 0 out true None None",
        "GET /api 200 in 0 out true Some(200) None",
    ];
    assert_eq!(*ends.lock(), told);
    let wrong = read(
        "services: [{name: echo, routes: [{name: api, paths: [/api], plugins: [{name: word}]}]}]",
    );
    let error = kit.gateway.reload(&wrong).unwrap_err().to_string();
    assert!(
        error.contains("plugins[0].config: expected a word"),
        "{error}"
    );
}

#[tokio::test]
async fn a_plugin_that_panics_at_the_end_costs_nobody_anything() {
    let ends = Arc::default();
    let kit = kit(&ends).await;
    let twice = "GET /panics HTTP/1.1\r\nhost: shop\r\n\r\nGET /panics HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n";
    let answers = kit.raw(twice).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
}

#[tokio::test]
async fn a_plugin_that_waits_too_long_fails_the_request_alone() {
    let ends = Arc::default();
    let kit = kit(&ends).await;
    let mut asking = kit.connect().await;
    let request =
        "POST /never HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-length: 3\r\n\r\ntea";
    asking.write_all(request.as_bytes()).await.unwrap();
    // What comes after it is answered, so it has come.
    let other = kit.send("POST /api", "", "tea").await;
    assert_eq!(other.status, 200);
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(61)).await;
    tokio::time::resume();
    let answer = read_all(&mut asking).await;
    assert!(
        answer.starts_with("HTTP/1.1 504 ") && answer.contains("plugin_slow"),
        "{answer}"
    );
}
