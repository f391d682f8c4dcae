//! A connection's timer for the headers of its requests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use parking_lot::Mutex;

/// Keeps one timer from request to request: one that is only ever moved to a later time costs the runtime next to
/// nothing, a new one for each request takes its lock twice.
#[derive(Clone, Default)]
pub(super) struct KeptTimer(Arc<Mutex<Option<Kept>>>);

type Kept = Pin<Box<tokio::time::Sleep>>;

/// A wait, which gives its timer back.
struct Wait {
    timer: Option<Kept>,
    home: KeptTimer,
}

impl Timer for KeptTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let kept = self.0.lock().take();
        let timer = match kept {
            Some(mut timer) => {
                timer.as_mut().reset(deadline.into());
                timer
            }
            None => Box::pin(tokio::time::sleep_until(deadline.into())),
        };
        Box::pin(Wait {
            timer: Some(timer),
            home: self.clone(),
        })
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        if let Some(wait) = sleep.as_mut().downcast_mut_pin::<Wait>()
            && let Some(timer) = &mut wait.get_mut().timer
        {
            timer.as_mut().reset(deadline.into());
        }
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into()
    }
}

impl Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        *self.home.0.lock() = self.timer.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_is_kept_waits_for_each_time_anew() {
        let timer = KeptTimer::default();
        let second = Duration::from_secs(1);
        let began = timer.now();
        let at = |seconds| began + second * seconds;
        timer.sleep_until(at(3)).await;
        assert_eq!(timer.now(), at(3));
        assert!(timer.0.lock().is_some(), "it is kept");

        // Given up before its time, then waited for until a later one, and until an earlier one.
        drop(timer.sleep_until(at(5)));
        let mut wait = timer.sleep_until(at(9));
        assert!(timer.0.lock().is_none());
        assert!(futures::poll!(&mut wait).is_pending());
        timer.reset(&mut wait, at(7));
        wait.await;
        assert_eq!(timer.now(), at(7));
        timer.sleep(second).await;
        assert_eq!(timer.now(), at(8));
    }
}
