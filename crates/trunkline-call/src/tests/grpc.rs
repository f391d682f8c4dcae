//! gRPC, each case in process and over TCP.

mod hostile;
mod sample;

use std::sync::atomic::Ordering;

use futures::StreamExt;
use futures::stream;
use tonic::{Code, Request, Status};
use trunkline_testkit::eventually;
use trunkline_testproto::stock::stock_client::StockClient;
use trunkline_testproto::stock::{Level, Line};

use self::sample::{Room, line, router};
use super::*;
use crate::grpc::{GrpcChannel, error};

const SOON: Duration = Duration::from_secs(10);

async fn case<F, W>(case: F)
where
    F: Fn(StockClient<GrpcChannel>, Client, Room) -> W,
    W: Future<Output = ()>,
{
    let telemetry = Telemetry::new(Env::system());
    let room = Room::default();
    let router = layer(router(&room), "there", telemetry.clone(), Limits::default());
    both_ways(router, telemetry, Responses::Plain, |client, _| {
        case(StockClient::new(client.grpc()), client, room.clone())
    })
    .await;
}

fn shown(levels: &[Result<Level, Status>]) -> Vec<String> {
    let show = |level: &Result<Level, Status>| match level {
        Ok(level) => format!("{} {}", level.sku, level.quantity),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    };
    levels.iter().map(show).collect()
}

#[tokio::test]
async fn all_kinds_of_streaming_have_one_transcript() {
    case(|mut client, _, _| async move {
        let reserved = client.reserve(line("tea", 2)).await.unwrap().into_inner();
        assert_eq!(reserved.id, "tea-2");
        let watched = client.watch(line("tea", 3)).await.unwrap().into_inner();
        let watched: Vec<_> = watched.collect().await;
        assert_eq!(shown(&watched), ["tea 1", "tea 2", "tea 3"]);
        let lines = || stream::iter((1..=4).map(|quantity| line("tea", quantity)));
        let received = client.receive(lines()).await.unwrap().into_inner();
        assert_eq!((&*received.sku, received.quantity), ("tea", 10));
        let counted = client.count(lines()).await.unwrap().into_inner();
        let counted: Vec<_> = counted.collect().await;
        assert_eq!(shown(&counted), ["tea 1", "tea 3", "tea 6", "tea 10"]);
        let broken = client.watch(line("breaks", 2)).await.unwrap().into_inner();
        let broken: Vec<_> = broken.collect().await;
        assert_eq!(
            shown(&broken),
            [
                "breaks 1",
                "breaks 2",
                "FailedPrecondition: the shelf is closed (shelf: 7)"
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn a_question_is_answered_before_the_next_is_asked() {
    case(|mut client, _, _| async move {
        let (ask, asked) = futures::channel::mpsc::channel(1);
        let mut ask = ask;
        ask.try_send(line("tea", 1)).unwrap();
        let mut counted = client.count(asked).await.unwrap().into_inner();
        for quantity in 1..=3 {
            let level = counted.message().await.unwrap().unwrap();
            assert_eq!(level.quantity, quantity);
            ask.try_send(line("tea", 1)).unwrap();
        }
        drop(ask);
        assert_eq!(counted.message().await.unwrap().unwrap().quantity, 4);
        assert!(counted.message().await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn the_context_travels_in_metadata() {
    case(|_, client, _| async move {
        let mut context = client.context.clone();
        context.causation_id = Some("e-1".into());
        context.user_roles = vec!["clerk".into()];
        let asked = Client::new(client.channel.clone(), context.clone());
        let mut request = Request::new(line("tea", 1));
        let key = "k-1".parse().unwrap();
        request.metadata_mut().insert("idempotency-key", key);
        let mut client = StockClient::new(asked.grpc());
        let seen = client.reserve(request).await.unwrap().into_inner().seen;
        let expected = [
            ("correlation", &*context.correlation_id),
            ("causation", "e-1"),
            ("user", "u-1"),
            ("roles", "clerk"),
            ("caller", "here"),
            ("key", "k-1"),
            ("has_deadline", "true"),
        ];
        for (name, value) in expected {
            assert_eq!(seen.get(name).map(String::as_str), Some(value), "{name}");
        }
        let trace = format!("{:032x}", context.trace.trace_id);
        assert_eq!(seen["trace"], trace);
    })
    .await;
}

#[tokio::test]
async fn an_error_comes_back_as_it_was_and_a_failure_tells_nothing() {
    case(|mut client, _, _| async move {
        let status = client.reserve(line("closed", 1)).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        let closed = error(status);
        assert_eq!(
            (closed.kind(), closed.code()),
            (ErrorKind::Conflict, "shelf_closed")
        );
        assert_eq!(closed.retry(), Retry::Transient);
        assert_eq!(closed.retry_after(), Some(Duration::from_millis(1_500)));
        assert_eq!(closed.message(), "the shelf is closed (shelf: 7)");
        for sku in ["fails", "panics"] {
            let status = client.reserve(line(sku, 1)).await.unwrap_err();
            assert_eq!(status.code(), Code::Internal, "{sku}");
            assert!(!format!("{status:?}").contains("secret"), "{status:?}");
        }
        let panics = client.watch(line("panics", 1)).await.unwrap().into_inner();
        let panics: Vec<_> = panics.collect().await;
        let Some(Err(status)) = panics.last() else {
            panic!("{panics:?}")
        };
        assert_eq!(status.code(), Code::Internal);
        assert!(!format!("{status:?}").contains("secret"), "{status:?}");
    })
    .await;
}

#[tokio::test]
async fn a_deadline_ends_the_call_and_its_handler() {
    case(|mut client, _, room| async move {
        let began = room.began.load(Ordering::SeqCst);
        let mut request = Request::new(line("hangs", 1));
        request.set_timeout(Duration::from_millis(400));
        let status = client.reserve(request).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert_eq!(error(status).code(), "deadline_exceeded");

        // A stream has begun, and then its next message does not come.
        let mut request = Request::new(line("pauses", 1));
        request.set_timeout(Duration::from_secs(1));
        let mut levels = client.watch(request).await.unwrap().into_inner();
        levels.message().await.unwrap().unwrap();
        let status = levels.message().await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert_eq!(room.began.load(Ordering::SeqCst), began + 2);
        eventually(SOON, async || {
            room.ended.load(Ordering::SeqCst) == began + 2
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn the_work_s_own_deadline_counts_for_a_call_that_asks_for_more() {
    case(|_, client, _| async move {
        let env = client.channel.network().env().clone();
        let short = client
            .context
            .clone()
            .within(Duration::from_millis(60), &env);
        let short = Client::new(client.channel.clone(), short);
        let mut request = Request::new(line("hangs", 1));
        request.set_timeout(Duration::from_secs(600));
        let status = StockClient::new(short.grpc()).reserve(request).await;
        assert_eq!(status.unwrap_err().code(), Code::DeadlineExceeded);
    })
    .await;
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_at_the_other_end() {
    case(|client, _, room| async move {
        let began = room.began.load(Ordering::SeqCst);
        let mut first = client.clone();
        let mut call = Box::pin(first.reserve(line("hangs", 1)));
        eventually(SOON, async || {
            assert!(futures::poll!(&mut call).is_pending());
            room.began.load(Ordering::SeqCst) == began + 1
        })
        .await;
        drop(call);
        let mut second = client.clone();
        let mut levels = second.watch(line("pauses", 1)).await.unwrap().into_inner();
        levels.message().await.unwrap().unwrap();
        drop(levels);
        eventually(SOON, async || {
            room.ended.load(Ordering::SeqCst) == began + 2
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_holds_an_endless_stream_back() {
    const PADDING_BYTES: usize = 64 * 1024;
    case(|mut client, _, room| async move {
        room.produced.store(0, Ordering::SeqCst);
        let mut request = line("endless", 1);
        request.padding = vec![7; PADDING_BYTES];
        let mut levels = client.watch(request).await.unwrap().into_inner();
        for quantity in 1..=3 {
            let level = levels.message().await.unwrap().unwrap();
            assert_eq!(
                (level.quantity, level.padding.len()),
                (quantity, PADDING_BYTES)
            );
        }
        // Meanwhile others use the connection, for long enough to produce thousands.
        for _ in 0..200 {
            client.reserve(line("tea", 1)).await.unwrap();
        }
        let produced = room.produced.load(Ordering::SeqCst) * PADDING_BYTES;
        assert!(
            produced < 2 * 1024 * 1024,
            "{produced} bytes ahead of the reader"
        );
        drop(levels);
    })
    .await;
}

#[tokio::test]
async fn what_is_too_large_or_unknown_is_refused() {
    case(|mut client, client_of, _| async move {
        let mut large = line("tea", 1);
        large.padding = vec![0; 5 * 1024 * 1024];
        let status = client.reserve(large).await.unwrap_err();
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
        let mut request = Request::new(line("tea", 1));
        let long = "x".repeat(64 * 1024).parse().unwrap();
        request.metadata_mut().insert("x-long", long);
        // In process nothing has to be sent; over the wire it is refused, and either way the connection goes on.
        let _either: Result<_, Status> = client.reserve(request).await;
        client.reserve(line("tea", 1)).await.unwrap();

        let mut unknown = tonic::client::Grpc::new(client_of.grpc());
        unknown.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/stock.v1.Stock/Burn");
        let codec = tonic_prost::ProstCodec::<Line, Level>::default();
        let burnt = unknown.unary(Request::new(line("tea", 1)), path, codec);
        let status = burnt.await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        assert_eq!(error(status).code(), "method_unknown");
    })
    .await;
}

#[tokio::test]
async fn spans_and_their_ends_are_those_of_the_whole_call() {
    let ring = std::sync::Arc::new(Ring::new(64));
    let telemetry = Telemetry::new(Env::system()).with_sink(ring.clone());
    let room = Room::default();
    let router = layer(router(&room), "there", telemetry.clone(), Limits::default());
    both_ways(router, telemetry, Responses::Plain, |client, context| {
        let ring = ring.clone();
        async move {
            let servers = || {
                let spans = ring.spans(context.trace.trace_id).into_iter();
                spans.filter(|span| span.kind == SpanKind::Server)
            };
            let before = servers().count();
            let mut client = StockClient::new(client.grpc());
            client.reserve(line("fails", 1)).await.unwrap_err();
            let watched = client.watch(line("tea", 2)).await.unwrap().into_inner();
            assert_eq!(watched.collect::<Vec<_>>().await.len(), 2);
            eventually(SOON, async || servers().count() == before + 2).await;
            let fails = servers()
                .skip(before)
                .find(|span| span.name == "POST /stock.v1.Stock/Reserve");
            let fails = fails.expect("a span by the method's name");
            assert_eq!(fails.error.as_deref(), Some("the secret of the shelf"));
            let watch = servers()
                .skip(before)
                .find(|span| span.name == "POST /stock.v1.Stock/Watch");
            assert_eq!(watch.unwrap().error, None);
        }
    })
    .await;
}
