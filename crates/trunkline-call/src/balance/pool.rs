//! The instances of one service, and which of them gets a call.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use trunkline_core::{ByteString, Env, Error, Result};

use super::ejection::nanos;
use super::load::Load;
use super::set::Set;
use super::{Avoid, Balance, Held, Member};
use crate::discovery::{Instance, clean};

/// What is reckoned with while nothing was measured: a millisecond.
const UNKNOWN_NANOS: f64 = 1e6;

/// What a call asks of the choice of its instance.
#[derive(Default)]
pub struct Ask<'a> {
    /// Calls with the same key go to the same instance while it can take them.
    pub key: Option<&'a [u8]>,
    /// Those that were tried before.
    pub avoid: Option<&'a Avoid>,
    /// Whether an instance may get a call, such as by its circuit breaker.
    pub admits: Option<&'a (dyn Fn(&Member) -> bool + Sync)>,
}

/// The instances of one service.
///
/// # Guarantees
/// An instance that is listed no more gets no call that is chosen after [`update`](Self::update) returned. Each that
/// is listed and not ejected gets calls, as long as there are calls. A choice takes no lock.
pub struct Pool {
    target: ByteString,
    set: ArcSwap<Set>,
    pub(super) balance: Balance,
    pub(super) env: Env,
    origin: Instant,
    /// Calls in flight to all instances.
    pub(super) in_flight: AtomicU32,
    window_ends: AtomicU64,
    court: Mutex<()>,
    learned: watch::Sender<Learned>,
    trouble: ArcSwapOption<String>,
    meters: OnceLock<Meters>,
}

struct Meters {
    known: Gauge,
    ejected: Gauge,
    by_run: Counter,
    by_share: Counter,
}

/// Whether the first list came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Learned {
    Waiting,
    /// Or it is known why not.
    Done,
}

impl Pool {
    /// A pool that knows no instance yet.
    pub fn new(target: impl Into<ByteString>, balance: Balance, env: Env) -> Self {
        Self {
            target: target.into(),
            set: ArcSwap::default(),
            balance,
            env,
            origin: Instant::now(),
            in_flight: AtomicU32::new(0),
            window_ends: AtomicU64::new(0),
            court: Mutex::new(()),
            learned: watch::Sender::new(Learned::Waiting),
            trouble: ArcSwapOption::empty(),
            meters: OnceLock::new(),
        }
    }

    /// The service.
    pub fn target(&self) -> &ByteString {
        &self.target
    }

    /// Its instances now.
    pub fn members(&self) -> Vec<Arc<Member>> {
        self.set.load().members.clone()
    }

    /// How many of them are ejected now.
    pub fn ejected(&self) -> usize {
        let (set, now) = (self.set.load(), self.now());
        set.members.iter().filter(|one| one.is_ejected(now)).count()
    }

    /// Replaces the list of instances. Those whose addresses stay keep what is known of them.
    pub fn update(&self, instances: Vec<Instance>) {
        let instances = clean(instances);
        let _court = self.court.lock();
        let (old, now) = (self.set.load(), self.now());
        let known: Vec<f64> = old.members.iter().map(|one| one.load.nanos(now)).collect();
        #[expect(clippy::cast_precision_loss, reason = "at most INSTANCES_MAX")]
        let usual = match known.len() {
            0 => UNKNOWN_NANOS,
            count => known.iter().sum::<f64>() / count as f64,
        };
        let member = |instance: &Instance| {
            // Both lists are sorted by address.
            let address =
                |one: &Arc<Member>| one.authority().as_str().cmp(instance.authority.as_str());
            let found = old.members.binary_search_by(address).ok();
            let found = found.and_then(|index| old.members.get(index));
            let found = found.filter(|one| one.is(instance)).cloned();
            found.unwrap_or_else(|| Arc::new(Member::new(instance, Load::new(usual, now))))
        };
        let set = Set::new(instances.iter().map(|one| (member(one), one.weight)));
        let mut out: Vec<_> = set
            .members
            .iter()
            .filter(|one| one.is_ejected(now))
            .collect();
        out.sort_by_key(|one| one.ejected_until.load(Relaxed));
        let room = self.balance.ejection.room(set.members.len());
        for spared in out.iter().take(out.len().saturating_sub(room)) {
            spared.ejected_until.store(now, Relaxed);
        }
        let (count, ejected) = (set.members.len(), out.len().min(room));
        self.set.store(Arc::new(set));
        self.show(count, ejected);
        self.learned.send_replace(Learned::Done);
    }

    /// Chooses an instance for a call.
    ///
    /// # Errors
    /// `Unavailable` (`Transient`: nothing was sent) when no instance is known, or none may get a call.
    pub fn choose(self: &Arc<Self>, ask: &Ask<'_>) -> Result<Held> {
        let (set, now) = (self.set.load(), self.now());
        let chosen = set
            .choose(self, ask, now)
            // Rather one that was tried than none.
            .or_else(|| {
                set.choose(
                    self,
                    &Ask {
                        avoid: None,
                        ..*ask
                    },
                    now,
                )
            });
        let Some(member) = chosen else {
            return Err(self.none(!set.members.is_empty()));
        };
        Ok(Held::new(self.clone(), member.clone(), now))
    }

    #[cold]
    fn none(&self, are_some: bool) -> Error {
        if are_some {
            let text = "no instance of the service may get a call now";
            return Error::unavailable("instances_refused", text);
        }
        let text = "no instance of the service is known";
        let error = Error::unavailable("service_unreachable", text);
        match &*self.trouble.load() {
            Some(why) => error.with("why", why),
            None => error,
        }
    }

    /// The key of a request, if its caller wants it to go where others with the same key go.
    pub(crate) fn key_of<'a, B>(&self, request: &'a http::Request<B>) -> Option<&'a [u8]> {
        self.balance.key_of(request)
    }

    /// Waits until the first list came, or it is known why it does not come.
    pub async fn ready(&self) {
        if *self.learned.borrow() == Learned::Waiting {
            let mut learned = self.learned.subscribe();
            // It is ours, so it is not closed.
            drop(learned.wait_for(|learned| *learned == Learned::Done).await);
        }
    }

    /// What is wrong with learning of changes, if something is. The instances that were known last are used meanwhile.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.load().as_deref().cloned()
    }

    pub(crate) fn troubled(&self, why: Option<String>) {
        self.trouble.store(why.map(Arc::new));
        self.learned.send_replace(Learned::Done);
    }

    /// Nanoseconds since the pool was made.
    pub(super) fn now(&self) -> u64 {
        nanos(self.origin.elapsed())
    }

    /// Takes in how a call ended: the window is looked at by whoever is the first to end after it.
    pub(super) fn ended(&self, member: &Member, now: u64, failed: bool) {
        if !member.is_ejected(now) {
            member.ended.fetch_add(1, Relaxed);
            if failed {
                member.failed.fetch_add(1, Relaxed);
                let failures = member.failures.fetch_add(1, Relaxed) + 1;
                if self.balance.ejection.is_due(failures) {
                    self.eject(member, now);
                }
            } else if member.failures.load(Relaxed) != 0 {
                member.failures.store(0, Relaxed);
            }
        }
        if now >= self.window_ends.load(Relaxed) {
            self.end_window(now);
        }
    }

    fn eject(&self, member: &Member, now: u64) {
        let _court = self.court.lock();
        let set = self.set.load();
        if set.has_room(self, now) && !member.is_ejected(now) {
            self.meters().by_run.increment(1);
            self.put_out(&set, member, now);
        }
    }

    fn end_window(&self, now: u64) {
        let Some(_court) = self.court.try_lock() else {
            return;
        };
        let began = self.window_ends.load(Relaxed);
        if now < began {
            return;
        }
        let ends = now.saturating_add(nanos(self.balance.ejection.window));
        self.window_ends.store(ends, Relaxed);
        let set = self.set.load();
        for member in self.balance.ejection.outliers(&set.members) {
            if set.has_room(self, now) && !member.is_ejected(now) {
                self.meters().by_share.increment(1);
                self.put_out(&set, &member, now);
            }
        }
        for member in &set.members {
            member.ended.store(0, Relaxed);
            member.failed.store(0, Relaxed);
        }
        self.show(set.members.len(), set.ejected(now));
    }

    fn put_out(&self, set: &Set, member: &Member, now: u64) {
        let lasts: Duration = self.balance.ejection.put_out(member, now, &self.env);
        self.show(set.members.len(), set.ejected(now));
        tracing::warn!(
            target = %self.target, instance = %member.authority(), ?lasts,
            "an instance fails and gets no calls for a while"
        );
    }

    fn show(&self, known: usize, ejected: usize) {
        let meters = self.meters();
        #[expect(clippy::cast_precision_loss, reason = "at most INSTANCES_MAX")]
        let (known, ejected) = (known as f64, ejected as f64);
        meters.known.set(known);
        meters.ejected.set(ejected);
    }

    fn meters(&self) -> &Meters {
        self.meters.get_or_init(|| {
            let target = ("target", self.target.to_string());
            let ejections = |cause: &'static str| {
                let labels = [target.clone(), ("cause", cause.to_owned())];
                counter!("trunkline_ejections_total", &labels)
            };
            Meters {
                known: gauge!("trunkline_instances", std::slice::from_ref(&target)),
                ejected: gauge!("trunkline_instances_ejected", std::slice::from_ref(&target)),
                by_run: ejections("failures_in_a_row"),
                by_share: ejections("share_of_failures"),
            }
        })
    }
}

impl fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").finish_non_exhaustive()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("target", &self.target)
            .field("members", &self.set.load().members)
            .finish_non_exhaustive()
    }
}
