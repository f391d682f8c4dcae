//! A stockroom that does what its goods are called.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::post_service;
use futures::{Stream, StreamExt, stream};
use tonic::{Request, Response, Status, Streaming};
use trunkline_core::{Context, Error, Retry};
use trunkline_testproto::stock::stock_server::{Stock, StockServer};
use trunkline_testproto::stock::{Level, Line, Reserved};

use crate::grpc::status;
use crate::headers;

/// What happened in it.
#[derive(Clone, Default)]
pub(super) struct Room {
    /// How many handlers and streams that hang have begun, and how many of them were let go.
    pub(super) began: Arc<AtomicUsize>,
    pub(super) ended: Arc<AtomicUsize>,
    pub(super) produced: Arc<AtomicUsize>,
}

pub(super) fn line(sku: &str, quantity: i64) -> Line {
    Line {
        sku: sku.to_owned(),
        quantity,
        padding: Vec::new(),
    }
}

fn level(sku: &str, quantity: i64) -> Level {
    Level {
        sku: sku.to_owned(),
        quantity,
        padding: Vec::new(),
    }
}

pub(super) fn router(room: &Room) -> Router {
    let methods = ["Reserve", "Watch", "Receive", "Count", "Look"];
    methods.iter().fold(Router::new(), |router, method| {
        let server = StockServer::new(room.clone());
        router.route(&format!("/stock.v1.Stock/{method}"), post_service(server))
    })
}

impl Room {
    fn begin(&self) -> Ended {
        self.began.fetch_add(1, Ordering::SeqCst);
        Ended(self.ended.clone())
    }
}

struct Ended(Arc<AtomicUsize>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn closed() -> Status {
    let closed = Error::conflict("shelf_closed", "the shelf is closed").with("shelf", 7);
    let closed = closed.with_retry(Retry::Transient);
    status(closed.with_retry_after(Duration::from_millis(1_500)))
}

fn seen(request: &Request<Line>) -> HashMap<String, String> {
    let context = request.extensions().get::<Context>().unwrap();
    let header = |name: &str| {
        let value = request.metadata().get(name);
        value
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    let text =
        |id: &Option<trunkline_core::ByteString>| id.as_deref().unwrap_or_default().to_owned();
    let all = [
        ("correlation", context.correlation_id.to_string()),
        ("causation", text(&context.causation_id)),
        ("user", text(&context.user_id)),
        ("roles", context.user_roles.join(",")),
        ("trace", format!("{:032x}", context.trace.trace_id)),
        ("has_deadline", context.deadline.is_some().to_string()),
        ("caller", header(headers::CALLER.as_str())),
        ("key", header(headers::IDEMPOTENCY_KEY.as_str())),
    ];
    all.map(|(name, value)| (name.to_owned(), value)).into()
}

type Levels = Pin<Box<dyn Stream<Item = Result<Level, Status>> + Send>>;

#[tonic::async_trait]
impl Stock for Room {
    async fn reserve(&self, request: Request<Line>) -> Result<Response<Reserved>, Status> {
        let seen = seen(&request);
        let Line { sku, quantity, .. } = request.into_inner();
        match &*sku {
            "closed" => return Err(closed()),
            "fails" => return Err(status(Error::internal("the secret of the shelf"))),
            "panics" => panic!("the secret of the handler"),
            "hangs" => {
                let _ended = self.begin();
                std::future::pending::<()>().await;
            }
            _ => {}
        }
        let id = format!("{sku}-{quantity}");
        Ok(Response::new(Reserved { id, seen }))
    }

    type WatchStream = Levels;

    async fn watch(&self, request: Request<Line>) -> Result<Response<Levels>, Status> {
        let Line {
            sku,
            quantity,
            padding,
        } = request.into_inner();
        let name = sku.clone();
        let levels = stream::iter(1..=quantity).map(move |quantity| Ok(level(&name, quantity)));
        let levels: Levels = match &*sku {
            "breaks" => Box::pin(levels.chain(stream::once(async { Err(closed()) }))),
            "panics" => {
                Box::pin(levels.chain(stream::once(async { panic!("the secret of the stream") })))
            }
            "pauses" => {
                let ended = self.begin();
                let rest = stream::once(async move {
                    let _ended = ended;
                    std::future::pending().await
                });
                Box::pin(levels.chain(rest))
            }
            "endless" => {
                let produced = self.produced.clone();
                Box::pin(stream::iter(1..).map(move |quantity| {
                    produced.fetch_add(1, Ordering::SeqCst);
                    let padding = padding.clone();
                    Ok(Level {
                        padding,
                        ..level("endless", quantity)
                    })
                }))
            }
            _ => Box::pin(levels),
        };
        Ok(Response::new(levels))
    }

    async fn receive(&self, request: Request<Streaming<Line>>) -> Result<Response<Level>, Status> {
        let mut lines = request.into_inner();
        let mut sum = level("", 0);
        while let Some(line) = lines.message().await? {
            sum = level(&line.sku, sum.quantity + line.quantity);
        }
        Ok(Response::new(sum))
    }

    type CountStream = Levels;

    async fn count(&self, request: Request<Streaming<Line>>) -> Result<Response<Levels>, Status> {
        let levels = request.into_inner().scan(0, |sum, line| {
            let level = line.map(|line| {
                *sum += line.quantity;
                level(&line.sku, *sum)
            });
            std::future::ready(Some(level))
        });
        Ok(Response::new(Box::pin(levels)))
    }

    async fn look(&self, request: Request<Line>) -> Result<Response<Level>, Status> {
        let line = request.into_inner();
        Ok(Response::new(level(&line.sku, line.quantity)))
    }
}
