//! The crash kit: a saga with every step made twice, failing at each of its steps, its process dying after each write of its
//! journal, and its compensations made twice.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use trunkline_saga::{At, Fate, Probe, State, Went};

/// What is done to the sagas of something that runs, such as a platform: nothing, or what one run of [`exhaust`] is about.
#[derive(Default)]
pub struct Switch(Mutex<Option<Arc<dyn Probe>>>);

impl Switch {
    /// From now on this is done to them.
    pub fn set(&self, probe: Arc<dyn Probe>) {
        *self.0.lock() = Some(probe);
    }

    fn now(&self) -> Option<Arc<dyn Probe>> {
        self.0.lock().clone()
    }
}

impl Probe for Switch {
    fn attempt(&self, at: &At) -> Fate {
        self.now().map_or(Fate::GoesOn, |probe| probe.attempt(at))
    }

    fn crashes_after(&self, went: &Went) -> bool {
        self.now().is_some_and(|probe| probe.crashes_after(went))
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").finish_non_exhaustive()
    }
}

/// Runs a saga with every fault that it has to bear, one run each; how many runs there were.
///
/// `run` makes a fresh world, runs one instance of the saga in it with the given probe until it is settled, checks the
/// world (nothing half done, nothing done twice), and returns the state that the instance came to. It is told what the run
/// is about, for its messages.
///
/// # Panics
/// When an instance is parked, or does not come to the state of the same run without a fault of its process.
pub async fn exhaust<F, W>(run: F) -> usize
where
    F: Fn(String, Arc<dyn Probe>) -> W,
    W: Future<Output = State>,
{
    let kit = Kit { run };
    let (plain, course) = kit.go("as it is", Plan::default()).await;
    assert_ne!(plain, State::Parked, "parked as it is");
    assert!(course.writes > 0, "a saga that writes nothing is no saga");
    let mut runs = 1 + kit
        .process_faults("", &Plan::default(), plain, course.writes)
        .await;
    for step in course.steps.keys() {
        for then in [None, Some(Fate::Fails)] {
            let plan = Plan {
                dies: Some(step.clone()),
                fails: then.map(|fate| (step.clone(), fate)),
                ..Plan::default()
            };
            let about = format!("dying in {step}, and then {then:?}");
            let (ended, _) = kit.go(&about, plan.clone()).await;
            assert_ne!(ended, State::Parked, "parked: {about}");
            let again = Plan {
                crash: Some(Crash::Everywhere),
                ..plan
            };
            let about = format!("{about}, and dying after every write");
            let (twice, _) = kit.go(&about, again).await;
            assert_eq!(came_to(twice), came_to(ended), "{about}");
            runs += 2;
        }
        for fate in [Fate::Fails, Fate::FailsUnknown] {
            let plan = Plan {
                fails: Some((step.clone(), fate)),
                ..Plan::default()
            };
            let about = format!("{fate:?} at {step}: ");
            let (failed, course) = kit.go(&about, plan.clone()).await;
            assert_ne!(failed, State::Parked, "parked: {about}");
            runs += 1 + kit
                .process_faults(&about, &plan, failed, course.writes)
                .await;
        }
    }
    runs
}

struct Kit<F> {
    run: F,
}

impl<F, W> Kit<F>
where
    F: Fn(String, Arc<dyn Probe>) -> W,
    W: Future<Output = State>,
{
    /// The same run with everything twice, and with its process dying after each write, and after all of them.
    async fn process_faults(&self, about: &str, plan: &Plan, wanted: State, writes: u32) -> usize {
        let mut plans = vec![(
            "everything twice".to_owned(),
            Plan {
                twice: true,
                ..plan.clone()
            },
        )];
        let everywhere = Plan {
            crash: Some(Crash::Everywhere),
            ..plan.clone()
        };
        plans.push(("dying after every write".to_owned(), everywhere));
        plans.extend((1..=writes).map(|write| {
            let crash = Some(Crash::After(write));
            let plan = Plan {
                crash,
                ..plan.clone()
            };
            (format!("dying after write {write}"), plan)
        }));
        let count = plans.len();
        for (fault, plan) in plans {
            let about = format!("{about}{fault}");
            let (state, _) = self.go(&about, plan).await;
            assert_eq!(came_to(state), came_to(wanted), "{about}");
        }
        count
    }

    async fn go(&self, about: &str, plan: Plan) -> (State, Course) {
        let fault = Arc::new(Fault {
            plan,
            course: Mutex::default(),
        });
        let state = (self.run)(about.to_owned(), fault.clone()).await;
        let course = std::mem::take(&mut *fault.course.lock());
        (state, course)
    }
}

/// Nothing is nothing, whether there was something to undo: who died may have begun what the next one did not get to.
fn came_to(state: State) -> State {
    match state {
        State::Failed => State::Compensated,
        state => state,
    }
}

/// What is done to a run.
#[derive(Debug, Clone, Default)]
struct Plan {
    fails: Option<(String, Fate)>,
    /// Its process dies in the first attempt of this step.
    dies: Option<String>,
    twice: bool,
    crash: Option<Crash>,
}

#[derive(Debug, Clone, Copy)]
enum Crash {
    After(u32),
    Everywhere,
}

/// What a run did.
#[derive(Debug, Default)]
struct Course {
    /// Attempts of each step, by saga, place and name.
    steps: BTreeMap<String, u32>,
    writes: u32,
}

struct Fault {
    plan: Plan,
    course: Mutex<Course>,
}

impl Probe for Fault {
    fn attempt(&self, at: &At) -> Fate {
        let step = format!("{} {}:{}", at.instance.saga, at.place, at.name);
        if !at.undo {
            let mut course = self.course.lock();
            let attempts = course.steps.entry(step.clone()).or_default();
            *attempts += 1;
            if *attempts == 1 && self.plan.dies.as_ref() == Some(&step) {
                return Fate::Dies;
            }
        }
        match &self.plan.fails {
            Some((fails, fate)) if !at.undo && *fails == step => *fate,
            _ if self.plan.twice => Fate::Twice,
            _ => Fate::GoesOn,
        }
    }

    fn crashes_after(&self, _went: &Went) -> bool {
        let mut course = self.course.lock();
        course.writes += 1;
        match self.plan.crash {
            None => false,
            Some(Crash::Everywhere) => true,
            Some(Crash::After(write)) => course.writes == write,
        }
    }
}
