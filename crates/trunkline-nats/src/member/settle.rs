//! What becomes of receipts.

use tokio::time::Instant;
use trunkline_bus::{Settlement, Settler};

use super::{End, INDEX_BITS, Member};
use crate::cursor::Settled;

impl Settler for Member {
    fn begin(&self, token: u64) -> bool {
        let mut state = self.state.lock();
        let Some((source, until)) = state.source(token) else {
            return false;
        };
        let valid = until.is_none_or(|until| Instant::now() < until);
        valid && source.cursor.begin(token & ((1 << INDEX_BITS) - 1))
    }

    fn settle(&self, token: u64, how: Settlement) {
        let mut state = self.state.lock();
        let full = state.out >= self.terms.in_flight_max;
        let Some((source, _)) = state.source(token) else {
            return;
        };
        let stalled = source.cursor.span() >= self.terms.span_max;
        let index = token & ((1 << INDEX_BITS) - 1);
        let settled = source.cursor.settle(index, how, Instant::now());
        let untold = self.terms.acks && source.cursor.untold().is_some();
        let let_go = source.moving.is_some() && source.cursor.begun() == 0;
        let wake = full || stalled || settled == Settled::Held;
        match (settled, how) {
            (Settled::Not, _) => return,
            (Settled::Away(reply), Settlement::Retry(pause)) => state.away.push((reply, pause)),
            _ => {}
        }
        state.out -= 1;
        let tell = untold || let_go || !state.away.is_empty() || !matches!(state.end, End::No);
        let tell = tell && !std::mem::replace(&mut state.told, true);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        if tell {
            self.work.notify_one();
        }
    }
}
