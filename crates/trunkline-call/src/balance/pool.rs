//! The instances of one service, and which of them gets a call.

use std::fmt;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use metrics::{Gauge, gauge};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use trunkline_core::{ByteString, Env, Error, Result};

use super::load::Load;
use super::set::Set;
use super::{Avoid, Balance, Breakers, Held, Member};
use crate::discovery::{Instance, clean};

/// What is reckoned with while nothing was measured: a millisecond.
const UNKNOWN_NANOS: f64 = 1e6;

/// The code of an error of a call that no instance may get.
pub(super) const REFUSED: &str = "instances_refused";

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
/// is listed and admitted gets calls, as long as there are calls. A choice takes no lock.
pub struct Pool {
    target: ByteString,
    set: ArcSwap<Set>,
    pub(super) balance: Balance,
    pub(super) env: Env,
    origin: Instant,
    /// Calls in flight to all instances.
    pub(super) in_flight: AtomicU32,
    /// Who changes the list holds it.
    changing: Mutex<()>,
    /// By caller: there are as many as services of this process that call it.
    breakers: ArcSwap<Vec<Arc<Breakers>>>,
    learned: watch::Sender<Learned>,
    trouble: ArcSwapOption<String>,
    meters: OnceLock<Meters>,
}

struct Meters {
    known: Gauge,
    left_out: Gauge,
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
            changing: Mutex::new(()),
            breakers: ArcSwap::default(),
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

    /// How many of them a caller leaves out now, because its breakers for them are open.
    pub fn left_out(&self) -> usize {
        self.seen(|members| members.iter().filter(|one| one.is_left_out()).count())
    }

    /// Looks at its instances as they are now.
    pub(crate) fn seen<T>(&self, look: impl FnOnce(&[Arc<Member>]) -> T) -> T {
        look(&self.set.load().members)
    }

    /// A caller's breakers, made when they are first asked for.
    pub(crate) fn breakers(
        &self,
        caller: &ByteString,
        make: impl FnOnce() -> Breakers,
    ) -> Arc<Breakers> {
        let known = || {
            let all = self.breakers.load();
            all.iter().find(|one| one.caller() == caller).cloned()
        };
        if let Some(known) = known() {
            return known;
        }
        let made = Arc::new(make());
        self.breakers.rcu(|all| {
            let mut all = Vec::clone(all);
            if !all.iter().any(|one| one.caller() == caller) {
                all.push(made.clone());
            }
            all
        });
        known().unwrap_or(made)
    }

    /// Replaces the list of instances. Those whose addresses stay keep what is known of them.
    pub fn update(&self, instances: Vec<Instance>) {
        let instances = clean(instances);
        let _changing = self.changing.lock();
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
        self.set.store(Arc::new(set));
        self.show();
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

    /// The instance that has a session, if it is still listed.
    pub(crate) fn of_session(self: &Arc<Self>, tag: &[u8]) -> Option<Held> {
        let set = self.set.load();
        let has = |member: &&Arc<Member>| member.tag().as_bytes() == tag;
        let member = set.members.iter().find(has)?;
        Some(Held::new(self.clone(), member.clone(), self.now()))
    }

    #[cold]
    fn none(&self, are_some: bool) -> Error {
        if are_some {
            let text = "no instance of the service may get a call now";
            return Error::unavailable(REFUSED, text);
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

    /// Whether the first list came, or it is known why not.
    pub(crate) fn is_ready(&self) -> bool {
        *self.learned.borrow() == Learned::Done
    }

    /// Waits until the first list came, or it is known why it does not come.
    pub async fn ready(&self) {
        if !self.is_ready() {
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

    /// Says how many instances there are, and how many are left out.
    pub(super) fn show(&self) {
        let meters = self.meters.get_or_init(|| {
            let target = [("target", self.target.to_string())];
            Meters {
                known: gauge!("trunkline_instances", &target),
                left_out: gauge!("trunkline_instances_left_out", &target),
            }
        });
        #[expect(clippy::cast_precision_loss, reason = "at most INSTANCES_MAX")]
        let (known, left_out) = (self.seen(<[_]>::len) as f64, self.left_out() as f64);
        meters.known.set(known);
        meters.left_out.set(left_out);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
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
