//! One member of a group, in memory.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use trunkline_core::Result;

use super::Shared;
use super::state::{Joined, MemberId, Next, Taken};
use crate::{Delivery, Receipt, Settlement, Settler, Subscription};

pub(super) struct MemorySubscription {
    joined: Joined,
    member: Arc<MemberSettler>,
}

struct MemberSettler {
    shared: Arc<Shared>,
    id: MemberId,
}

impl MemorySubscription {
    pub(super) fn new(shared: Arc<Shared>, joined: Joined) -> Self {
        let member = Arc::new(MemberSettler {
            shared,
            id: joined.id,
        });
        Self { joined, member }
    }

    fn delivery(&self, taken: Taken) -> Delivery {
        let (_, partition, offset) = taken.place;
        Delivery {
            envelope: taken.envelope,
            offset,
            partition: u16::try_from(partition).unwrap_or(u16::MAX),
            redeliveries: taken.redeliveries,
            unreadable: None,
            receipt: Receipt::new(self.member.clone(), taken.token),
        }
    }
}

impl Settler for MemberSettler {
    fn settle(&self, token: u64, how: Settlement) {
        self.shared.state.lock().settle(self.id, token, how);
    }
}

impl Subscription for MemorySubscription {
    fn next<'a>(&'a mut self, max: usize) -> BoxFuture<'a, Result<Vec<Delivery>>> {
        async move {
            loop {
                let next = self
                    .member
                    .shared
                    .state
                    .lock()
                    .next(self.joined.id, max.max(1));
                match next {
                    Next::Closed => return Ok(Vec::new()),
                    Next::Taken(taken) => {
                        return Ok(taken.into_iter().map(|one| self.delivery(one)).collect());
                    }
                    Next::Wait(None) => self.joined.wake.notified().await,
                    Next::Wait(Some(due)) => {
                        tokio::select! {
                            biased;
                            () = self.joined.wake.notified() => {}
                            () = tokio::time::sleep_until(due) => {}
                        }
                    }
                }
            }
        }
        .boxed()
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }

    fn lag(&self) -> BoxFuture<'_, Result<u64>> {
        std::future::ready(Ok(self.member.shared.state.lock().lag(self.joined.id))).boxed()
    }
}

impl Drop for MemorySubscription {
    fn drop(&mut self) {
        self.member.shared.state.lock().leave(self.joined.id);
    }
}

impl fmt::Debug for MemorySubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySubscription")
            .field("member", &self.joined.id)
            .finish()
    }
}
