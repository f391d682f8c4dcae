//! A platform of a test's own: in this process, on free ports, with its data in a folder that goes away.

use std::ops::Deref;
use std::sync::Arc;

use diboas::{Finance, Options};
use tempfile::TempDir;
use trunkline::telemetry::Ring;
use trunkline::{Config, Platform, Program as _, Settings};
use trunkline_testkit::http::Caller;
use trunkline_testkit::trace::{Hop, draw};

use crate::outside::Outside;

const SPANS_MAX: usize = 20_000;

pub(crate) struct TestFinance {
    pub(crate) finance: Finance,
    outside: Outside,
    _folder: TempDir,
    spans: Arc<Ring>,
}

impl Deref for TestFinance {
    type Target = Outside;

    fn deref(&self) -> &Outside {
        &self.outside
    }
}

impl TestFinance {
    pub(crate) async fn start() -> Self {
        Self::extended(|platform| platform).await
    }

    pub(crate) async fn extended(extend: impl FnOnce(Platform) -> Platform) -> Self {
        Self::configured(|_| {}, extend).await
    }

    pub(crate) async fn configured(
        set: impl FnOnce(&mut Config),
        extend: impl FnOnce(Platform) -> Platform,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Settings::on_free_ports(folder.path().join("data"))
            .load()
            .unwrap();
        set(&mut config);
        let options = Options {
            sandbox: Some(Settings::ANYWHERE),
            ..Options::default()
        };
        let spans = Arc::new(Ring::new(SPANS_MAX));
        let sink = Arc::clone(&spans);
        let finance =
            Finance::start_platform(options, config, |platform| extend(platform.span_sink(sink)));
        let finance = finance.await.unwrap();
        Self {
            outside: Outside {
                gateway: Caller::new(finance.running().gateway_url()),
                admin: Caller::new(finance.running().admin_url()),
                sandbox: Caller::new(finance.sandbox_url().unwrap()),
                data: folder.path().join("data"),
            },
            finance,
            _folder: folder,
            spans,
        }
    }

    /// The spans of the whole platform.
    pub(crate) fn spans(&self) -> Arc<Ring> {
        self.spans.clone()
    }

    /// Stops it, so that every span has ended, and draws the trace of a flow.
    pub(crate) async fn trace_of(self, event_type: &str) -> String {
        let events = self
            .admin
            .get(&format!("/api/v1/events?type={event_type}"))
            .await
            .expect(200);
        let event = &events["events"][0];
        let traceparent = event["traceparent"]
            .as_str()
            .unwrap_or_else(|| panic!("{events}"));
        let trace = u128::from_str_radix(traceparent.split('-').nth(1).unwrap(), 16).unwrap();
        self.finance.shutdown().await;
        draw(self.spans.spans(trace).iter().map(Hop::of).collect())
    }
}
