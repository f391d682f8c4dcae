//! How far behind a consumer is.

use std::time::Duration;

use tokio::time::Instant;

use super::actor::{Actor, Phase};
use super::source::Link;

/// How long after a measurement the next is made, while there is a lag.
const LAG_LATER: Duration = Duration::from_secs(5);
/// How long the transport may take to tell.
const LAG_WITHIN: Duration = Duration::from_secs(1);

impl Actor {
    /// Measures the lag for the gauge; goes on only while there is some, or while it is paused.
    pub(super) async fn measure_lag(&mut self) {
        let lag = self.lag().await;
        self.meters.gauges(
            lag,
            self.lanes.all.iter().map(|lane| lane.held).sum(),
            self.parked.len(),
        );
        let goes_on = lag != Some(0) || matches!(self.phase, Phase::Paused);
        self.lag_at = goes_on.then(|| Instant::now() + LAG_LATER);
    }

    pub(super) async fn lag(&mut self) -> Option<u64> {
        let mut sum = 0;
        for lane in &mut self.lanes.all {
            let lag = match &mut lane.source.link {
                Link::Unused => continue,
                Link::Open(subscription) => subscription.lag(),
                Link::Broken(_) | Link::Joining => return None,
            };
            sum += tokio::time::timeout(LAG_WITHIN, lag).await.ok()?.ok()?;
        }
        Some(sum)
    }
}
