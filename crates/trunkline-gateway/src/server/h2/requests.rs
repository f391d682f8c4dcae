//! The requests of one connection of HTTP/2 that are under way.

use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::{BoxFuture, CatchUnwind};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinSet;

use super::super::door::Line;
use super::answer::answer;

/// A request, and where its answer goes.
pub(super) type Asked = (Request<RecvStream>, SendResponse<Bytes>);

type Work = BoxFuture<'static, ()>;

/// The requests under way; they end with it. The connection's setting bounds how many there are.
pub(super) struct Requests {
    under_way: UnderWay,
    begun: u64,
}

enum UnderWay {
    /// Where one thread does everything, a task for each buys nothing. Of one that panics the others hear nothing, as with
    /// tasks.
    Here(FuturesUnordered<CatchUnwind<AssertUnwindSafe<Work>>>),
    /// Each may be done by another thread.
    Tasks(JoinSet<()>),
}

impl Requests {
    /// Of a connection that is served by the runtime at hand.
    pub(super) fn new() -> Self {
        let under_way = match Handle::current().runtime_flavor() {
            RuntimeFlavor::CurrentThread => UnderWay::Here(FuturesUnordered::new()),
            _ => UnderWay::Tasks(JoinSet::new()),
        };
        Self {
            under_way,
            begun: 0,
        }
    }

    pub(super) fn begin(&mut self, line: &Line, asked: Asked) {
        self.begun += 1;
        // In a box: whoever has it to do moves it, and it is some kilobytes.
        let work: Work = Box::pin(answer(line.clone(), asked, self.begun == 1));
        match &mut self.under_way {
            UnderWay::Here(all) => all.push(AssertUnwindSafe(work).catch_unwind()),
            UnderWay::Tasks(tasks) => {
                while tasks.try_join_next().is_some() {}
                tasks.spawn(work);
            }
        }
    }

    /// Goes on with those that can.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        if let UnderWay::Here(all) = &mut self.under_way {
            while let Poll::Ready(Some(_)) = all.poll_next_unpin(cx) {}
        }
    }

    /// How many requests there were, if none is under way.
    pub(super) fn at_rest(&mut self) -> Option<u64> {
        let is_empty = match &mut self.under_way {
            UnderWay::Here(all) => all.is_empty(),
            UnderWay::Tasks(tasks) => {
                while tasks.try_join_next().is_some() {}
                tasks.is_empty()
            }
        };
        is_empty.then_some(self.begun)
    }
}
