//! Staying known: an instance that is announced again and again, and withdrawn at the end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use trunkline_core::{ByteString, Env, Result, report};

use super::keeper::pause;
use super::{Instance, Registry};

/// A registry that does not answer within this time has not heard it.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// After a failure it is tried again at the latest so long after, so that a registry that was away knows everybody
/// again before it is believed that nobody is there.
const AGAIN_WITHIN: Duration = Duration::from_secs(5);

/// An instance that is registered for as long as this is kept. Dropped, it is not withdrawn but forgotten by the
/// registry in time, as if the process were killed.
pub struct Registration {
    service: ByteString,
    instance: watch::Sender<Instance>,
    registry: Arc<dyn Registry>,
    tasks: JoinSet<()>,
}

impl Registration {
    /// Announces an instance now, and from then on as often as the registry wants. A registry that is away is no
    /// reason not to start: it is told as soon as it is back.
    pub async fn start(
        registry: Arc<dyn Registry>,
        service: impl Into<ByteString>,
        instance: Instance,
        env: Env,
    ) -> Self {
        let (service, instance) = (service.into(), watch::Sender::new(instance));
        let mut heart = Heart {
            service: service.clone(),
            instance: instance.subscribe(),
            registry: registry.clone(),
            failed: 0,
            env,
        };
        let next = heart.beat().await;
        let mut tasks = JoinSet::new();
        tasks.spawn(heart.run(next));
        Self {
            service,
            instance,
            registry,
            tasks,
        }
    }

    /// The instance as it is announced.
    pub fn instance(&self) -> Instance {
        self.instance.borrow().clone()
    }

    /// Says whether the instance can work: at once, and with every announcement after.
    pub fn set_healthy(&self, healthy: bool) {
        self.instance
            .send_if_modified(|now| std::mem::replace(&mut now.healthy, healthy) != healthy);
    }

    /// Takes it out of the registry: within 5 s, or it is forgotten in time.
    ///
    /// # Errors
    /// What the registry says; nothing has to be done about it.
    pub async fn withdraw(mut self) -> Result<()> {
        // An announcement after it would bring it back.
        self.tasks.shutdown().await;
        let instance = self.instance();
        let gone = self.registry.withdraw(&self.service, &instance);
        timeout(ANSWER_WITHIN, gone)
            .await
            .unwrap_or_else(|_| Err(late()))
    }
}

struct Heart {
    service: ByteString,
    instance: watch::Receiver<Instance>,
    registry: Arc<dyn Registry>,
    failed: u32,
    env: Env,
}

impl Heart {
    async fn run(mut self, mut next: Duration) {
        loop {
            tokio::select! {
                biased;
                changed = self.instance.changed() => if changed.is_err() {
                    return;
                },
                () = sleep(next) => {}
            }
            next = self.beat().await;
        }
    }

    /// Announces it, and gives how long to wait.
    async fn beat(&mut self) -> Duration {
        let instance = self.instance.borrow_and_update().clone();
        let said = timeout(
            ANSWER_WITHIN,
            self.registry.announce(&self.service, &instance),
        )
        .await;
        match said.unwrap_or_else(|_| Err(late())) {
            Ok(next) => {
                if self.failed > 0 {
                    tracing::info!(service = %self.service, "the registry knows the service again");
                }
                self.failed = 0;
                // A registry that wants to hear it all the time is not obeyed.
                next.max(Duration::from_millis(100))
            }
            Err(error) => {
                self.failed = self.failed.saturating_add(1);
                if self.failed == 1 {
                    tracing::warn!(
                        service = %self.service, error = %report(&error),
                        "the registry can't be told where the service is"
                    );
                }
                pause(self.failed, &self.env).min(AGAIN_WITHIN)
            }
        }
    }
}

#[cold]
fn late() -> trunkline_core::Error {
    trunkline_core::Error::unavailable("registry_timeout", "the registry did not answer in time")
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("service", &self.service)
            .field("instance", &*self.instance.borrow())
            .finish_non_exhaustive()
    }
}
