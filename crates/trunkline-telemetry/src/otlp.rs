//! Spans to a collector: OTLP over HTTP, as protobuf.

mod encode;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use trunkline_core::{Error, Result};

use crate::{SpanRecord, SpanSink};

/// Spans beyond these wait nowhere: they are dropped and counted.
const QUEUE_MAX: usize = 8_192;
/// The most spans of one request.
const BATCH_MAX: usize = 512;
/// How long the first span of a batch waits for others.
const LINGER: Duration = Duration::from_millis(500);
/// How long the collector may take for one request.
const SEND_WITHIN: Duration = Duration::from_secs(5);

/// Sends finished spans to a collector, in batches, beside the work. A collector that is slow or away costs spans and
/// nothing else. Cheap to clone.
///
/// # Source
/// <https://opentelemetry.io/docs/specs/otlp/#otlphttp>
#[derive(Clone)]
pub struct Otlp {
    queue: mpsc::Sender<Job>,
    dropped: Arc<AtomicU64>,
    // Ends with the last clone.
    _worker: Arc<Mutex<JoinSet<()>>>,
}

enum Job {
    Span(Box<SpanRecord>),
    Flush(oneshot::Sender<()>),
}

impl Otlp {
    /// An exporter to the collector at `url`, such as `http://127.0.0.1:4318`; spans go to `/v1/traces` there.
    ///
    /// # Errors
    /// `InvalidInput` for anything but an `http://` address.
    pub fn to(url: &str) -> Result<Self> {
        let bad = || {
            Error::invalid(
                "otlp_invalid",
                "expected an address such as http://127.0.0.1:4318",
            )
            .with("address", url)
        };
        let base: Uri = url.parse().map_err(|_| bad())?;
        if base.scheme_str() != Some("http") || base.authority().is_none() {
            return Err(bad());
        }
        let target = format!("{}/v1/traces", url.trim_end_matches('/'));
        let target: Uri = target.parse().map_err(|_| bad())?;
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            target,
            jobs,
            dropped: dropped.clone(),
            http: Client::builder(TokioExecutor::new()).build_http(),
        };
        let mut task = JoinSet::new();
        task.spawn(worker.run());
        Ok(Self {
            queue,
            dropped,
            _worker: Arc::new(Mutex::new(task)),
        })
    }

    /// Waits until what was recorded so far is sent or dropped, at most `limit`.
    pub async fn flush(&self, limit: Duration) {
        let flushed = async {
            let (done, wait) = oneshot::channel();
            if self.queue.send(Job::Flush(done)).await.is_ok() {
                // A worker that has ended has nothing left to send.
                drop(wait.await);
            }
        };
        drop(timeout(limit, flushed).await);
    }

    /// How many spans were dropped, because the queue was full or the collector did not take them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl SpanSink for Otlp {
    fn record(&self, span: &SpanRecord) {
        if self
            .queue
            .try_send(Job::Span(Box::new(span.clone())))
            .is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp")
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

struct Worker {
    target: Uri,
    jobs: mpsc::Receiver<Job>,
    dropped: Arc<AtomicU64>,
    http: Client<HttpConnector, Full<Bytes>>,
}

impl Worker {
    async fn run(mut self) {
        while let Some(first) = self.jobs.recv().await {
            let mut spans = Vec::new();
            let mut flushing = Vec::new();
            take(first, &mut spans, &mut flushing);
            let linger = tokio::time::sleep(LINGER);
            tokio::pin!(linger);
            while flushing.is_empty() && spans.len() < BATCH_MAX {
                tokio::select! {
                    biased;
                    job = self.jobs.recv() => match job {
                        Some(job) => take(job, &mut spans, &mut flushing),
                        None => break,
                    },
                    () = &mut linger => break,
                }
            }
            self.send(&spans).await;
            for done in flushing {
                // Whoever waited may have gone.
                let _gone = done.send(());
            }
        }
    }

    async fn send(&self, spans: &[SpanRecord]) {
        if spans.is_empty() {
            return;
        }
        let body = export_request(spans, &BTreeMap::new());
        let request = Request::post(self.target.clone())
            .header(http::header::CONTENT_TYPE, "application/x-protobuf")
            .body(Full::from(body));
        let Ok(request) = request else { return };
        let why = match timeout(SEND_WITHIN, self.http.request(request)).await {
            Ok(Ok(response)) if response.status().is_success() => return,
            Ok(Ok(response)) => response.status().to_string(),
            Ok(Err(error)) => trunkline_core::report(&error).to_string(),
            Err(_) => format!("no answer within {SEND_WITHIN:?}"),
        };
        let count = u64::try_from(spans.len()).unwrap_or(u64::MAX);
        self.dropped.fetch_add(count, Ordering::Relaxed);
        tracing::warn!(
            spans = count,
            why,
            "the trace collector did not take spans; they are dropped"
        );
    }
}

/// Spans as the body of one request of OTLP over HTTP (`application/x-protobuf`), for whoever sends it. Each span's service is
/// its resource's `service.name`; `facts` are further attributes of every resource.
pub fn export_request(spans: &[SpanRecord], facts: &BTreeMap<String, String>) -> Vec<u8> {
    encode::request(spans, facts).encode_to_vec()
}

fn take(job: Job, spans: &mut Vec<SpanRecord>, flushing: &mut Vec<oneshot::Sender<()>>) {
    match job {
        Job::Span(span) => spans.push(*span),
        Job::Flush(done) => flushing.push(done),
    }
}

#[cfg(test)]
mod tests;
