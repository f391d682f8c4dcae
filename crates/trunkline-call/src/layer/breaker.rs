//! Leaving a target alone that fails.

mod layer;
#[cfg(test)]
mod tests;
mod window;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;
use trunkline_core::{Error, Result};

use self::window::Window;
use super::{Event, Observer, Outcome};
use crate::headers::CIRCUIT_OPEN;
use crate::policy::BreakerPolicy;

pub use layer::CircuitBreaker;
pub(crate) use layer::Judge;

/// What a circuit breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It lets them through.
    Closed,
    /// It refuses them.
    Open,
    /// It lets a few through to see whether the target is well again.
    HalfOpen,
}

/// A circuit breaker: of one instance, or of a whole target.
///
/// It opens after so many failures in a row, or when the share of failures among the calls of a sliding window reaches
/// its bound. After its time it lets probes through; if they succeed it closes, and if one fails it is open again.
///
/// # Guarantees
/// While it is half-open at most `probes` calls are let through, one that its caller gives up not counted. While it is
/// closed a call takes no lock.
#[derive(Debug)]
pub struct Breaker {
    policy: RwLock<BreakerPolicy>,
    /// The state in the lowest two bits, above them a number that each change counts up: a call that was let through
    /// before the last change has no say.
    word: AtomicU64,
    in_a_row: AtomicU32,
    window: Window,
    began: Instant,
    turns: Mutex<Turns>,
    observer: Observer,
    whole: Option<Arc<dyn Whole>>,
}

/// Those that a breaker is one of; it hears how each call ended.
pub(crate) trait Whole: fmt::Debug + Send + Sync {
    /// A call was answered.
    fn answered(&self);

    /// A call failed. The breaker that it was let through by has taken it in.
    fn failed(&self);
}

/// What only matters while it is not closed.
#[derive(Debug)]
struct Turns {
    until: Instant,
    reset: Duration,
    probes_out: u32,
    probes_good: u32,
}

const STATE_MASK: u64 = 3;

fn state_of(word: u64) -> State {
    match word & STATE_MASK {
        0 => State::Closed,
        1 => State::Open,
        _ => State::HalfOpen,
    }
}

impl Breaker {
    /// A closed breaker.
    pub fn new(policy: BreakerPolicy) -> Self {
        let began = Instant::now();
        Self {
            policy: RwLock::new(policy),
            word: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            window: Window::new(policy.window),
            began,
            turns: Mutex::new(Turns {
                until: began,
                reset: Duration::ZERO,
                probes_out: 0,
                probes_good: 0,
            }),
            observer: Observer::default(),
            whole: None,
        }
    }

    /// One of several.
    pub(crate) fn among(self, whole: Arc<dyn Whole>) -> Self {
        Self {
            whole: Some(whole),
            ..self
        }
    }

    /// Tells this observer when it opens, half-opens and closes.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Self {
        Self { observer, ..self }
    }

    /// Goes on by another policy; what was counted is forgotten if the window changes.
    pub fn set_policy(&self, policy: BreakerPolicy) {
        let before = std::mem::replace(&mut *self.policy.write(), policy);
        if before.window != policy.window {
            self.window.reset(policy.window);
        }
    }

    /// What it does with calls now. One that is open stays so until a call comes after its time.
    pub fn state(&self) -> State {
        state_of(self.word.load(Ordering::Acquire))
    }

    /// Whether a call would be let through now, for whoever has several to choose from.
    pub fn is_willing(&self) -> bool {
        let word = self.word.load(Ordering::Acquire);
        match state_of(word) {
            State::Closed => true,
            State::Open => Instant::now() >= self.turns.lock().until,
            State::HalfOpen => self.has_probe(&self.turns.lock()),
        }
    }

    /// How long it refuses calls for now; nothing when it does not, or nobody knows.
    pub(crate) fn left(&self) -> Duration {
        match self.state() {
            State::Open => {
                let until = self.turns.lock().until;
                until.saturating_duration_since(Instant::now())
            }
            State::Closed | State::HalfOpen => Duration::ZERO,
        }
    }

    /// Whether the last call failed, or it is not closed.
    pub(crate) fn is_doubted(&self) -> bool {
        self.in_a_row.load(Ordering::Relaxed) > 0 || self.state() != State::Closed
    }

    /// Opens it, if it is closed, as if there had been enough failures in a row.
    pub(crate) fn trip(&self) {
        let word = self.word.load(Ordering::Acquire);
        if state_of(word) == State::Closed {
            let reset = self.policy.read().reset;
            self.open(word, reset);
        }
    }

    /// Lets a call through; the permit says how it ended.
    ///
    /// # Errors
    /// `Unavailable` (`circuit_open`, `Transient`), with the time until probes are let through.
    pub fn permit(self: &Arc<Self>) -> Result<Permit> {
        let word = self.word.load(Ordering::Acquire);
        match state_of(word) {
            State::Closed => Ok(Permit::new(self.clone(), word, false)),
            _ => self.probe(),
        }
    }

    /// A permit while the breaker is not closed.
    fn probe(self: &Arc<Self>) -> Result<Permit> {
        let mut turns = self.turns.lock();
        let mut half_opened = false;
        let word = self.word.load(Ordering::Acquire);
        match state_of(word) {
            State::Closed => return Ok(Permit::new(self.clone(), word, false)),
            State::HalfOpen => {}
            State::Open => {
                let left = turns.until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    return Err(refused().with_retry_after(left));
                }
                (turns.probes_out, turns.probes_good) = (0, 0);
                self.turn(State::HalfOpen);
                half_opened = true;
            }
        }
        let permit = self.has_probe(&turns).then(|| {
            turns.probes_out += 1;
            Permit::new(self.clone(), self.word.load(Ordering::Acquire), true)
        });
        drop(turns);
        if half_opened {
            self.observer.tell(Event::Breaker(State::HalfOpen));
        }
        permit.ok_or_else(refused)
    }

    fn has_probe(&self, turns: &Turns) -> bool {
        turns.probes_out + turns.probes_good < self.policy.read().probes
    }

    /// A call ended that was let through under `word`.
    fn ended(&self, word: u64, failed: bool) {
        self.count(word, failed);
        self.pass_on(failed);
    }

    fn pass_on(&self, failed: bool) {
        match &self.whole {
            Some(whole) if failed => whole.failed(),
            Some(whole) => whole.answered(),
            None => {}
        }
    }

    fn count(&self, word: u64, failed: bool) {
        if self.word.load(Ordering::Acquire) != word {
            return;
        }
        let at = self.began.elapsed();
        self.window.record(at, failed);
        if !failed {
            // Written only when there is something to forget: healthy callers share this word.
            if self.in_a_row.load(Ordering::Relaxed) != 0 {
                self.in_a_row.store(0, Ordering::Relaxed);
            }
            return;
        }
        let in_a_row = self
            .in_a_row
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        let policy = *self.policy.read();
        if policy.failures_max > 0 && in_a_row >= policy.failures_max {
            self.open(word, policy.reset);
        } else if policy.rate_percent > 0 {
            let (calls, failures) = self.window.totals(at);
            let reached = failures * 100 >= calls * u64::from(policy.rate_percent);
            if calls >= u64::from(policy.calls_min) && reached {
                self.open(word, policy.rate_reset);
            }
        }
    }

    fn probe_ended(&self, word: u64, failed: Option<bool>) {
        let mut turns = self.turns.lock();
        if self.word.load(Ordering::Acquire) != word {
            return;
        }
        turns.probes_out = turns.probes_out.saturating_sub(1);
        let changed = match failed {
            None => return,
            Some(true) => {
                turns.until = Instant::now() + turns.reset;
                State::Open
            }
            Some(false) => {
                turns.probes_good += 1;
                if turns.probes_good < self.policy.read().probes {
                    return;
                }
                self.forget();
                State::Closed
            }
        };
        self.turn(changed);
        drop(turns);
        self.observer.tell(Event::Breaker(changed));
        self.pass_on(changed == State::Open);
    }

    fn open(&self, word: u64, reset: Duration) {
        let mut turns = self.turns.lock();
        if self.word.load(Ordering::Acquire) != word {
            return;
        }
        turns.reset = reset;
        turns.until = Instant::now() + reset;
        self.forget();
        self.turn(State::Open);
        drop(turns);
        self.observer.tell(Event::Breaker(State::Open));
    }

    fn forget(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
        self.window.reset(self.policy.read().window);
    }

    /// Changes the state; only with the lock.
    fn turn(&self, to: State) {
        let number = self.word.load(Ordering::Acquire) >> 2;
        let state = match to {
            State::Closed => 0,
            State::Open => 1,
            State::HalfOpen => 2,
        };
        let word = (number.wrapping_add(1) << 2) | state;
        self.word.store(word, Ordering::Release);
    }
}

/// The error of a call that is not let through.
pub(crate) fn refused() -> Error {
    Error::unavailable(
        CIRCUIT_OPEN,
        "the service failed too often of late and is left alone for a while",
    )
}

/// A call that was let through. Dropped without a word it says nothing of the target, and a probe is free again.
#[derive(Debug)]
#[must_use = "say how the call ended"]
pub struct Permit {
    breaker: Arc<Breaker>,
    word: u64,
    is_probe: bool,
    is_open: bool,
}

impl Permit {
    fn new(breaker: Arc<Breaker>, word: u64, is_probe: bool) -> Self {
        Self {
            breaker,
            word,
            is_probe,
            is_open: true,
        }
    }

    /// Whether it was let through to see whether the target is well again.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }

    /// Says how the call ended. Said again, a success changes nothing any more, and a failure counts as one more: the
    /// answer began well and broke off.
    pub fn record(&mut self, outcome: Outcome) {
        let failed = outcome.is_failure();
        if self.is_open && self.is_probe {
            self.breaker.probe_ended(self.word, Some(failed));
        } else if self.is_open || failed {
            self.breaker.ended(self.word, failed);
        }
        self.is_open = false;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_open && self.is_probe {
            self.breaker.probe_ended(self.word, None);
        }
    }
}
