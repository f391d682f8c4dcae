//! A provider, as it is called.

use std::time::Duration;

use trunkline::{Cx, Error, ErrorKind, Result};

use crate::chains::{Leg, NewLeg, Offer};

/// How long a provider may take to answer.
const WITHIN: Duration = Duration::from_secs(2);

/// A provider of the chains.
#[derive(Debug)]
pub(super) struct Remote {
    name: &'static str,
}

impl Remote {
    pub(super) fn named(name: &'static str) -> Self {
        Self { name }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) async fn quote(&self, cx: &Cx, leg: &NewLeg) -> Result<Offer> {
        let path = format!("/v1/{}/quotes", self.name);
        let request = cx.service(self.name)?.post(path).idempotent();
        request.timeout(WITHIN).json(leg).send().await
    }

    /// # Errors
    /// Besides the call's own: `DeadlineExceeded`, of which nobody knows what came, when the answer says nothing.
    pub(super) async fn execute(&self, cx: &Cx, leg: &NewLeg) -> Result<Leg> {
        let path = format!("/v1/{}/legs", self.name);
        let request = cx.service(self.name)?.post(path).idempotency_key(&leg.key);
        let answer: Option<Leg> = request.timeout(WITHIN).json(leg).send().await?;
        answer.ok_or_else(|| {
            let text = "the provider answered nothing, so nobody knows what it did";
            let error = Error::new(ErrorKind::DeadlineExceeded, "provider_silent", text);
            error.with("provider", self.name)
        })
    }

    pub(super) async fn reverse(&self, cx: &Cx, key: &str) -> Result<Leg> {
        let path = format!("/v1/{}/legs/{key}/reverse", self.name);
        let request = cx.service(self.name)?.post(path).idempotent();
        request.timeout(WITHIN).send().await
    }

    pub(super) async fn find(&self, cx: &Cx, key: &str) -> Result<Leg> {
        let path = format!("/v1/{}/legs/{key}", self.name);
        cx.service(self.name)?
            .get(path)
            .timeout(WITHIN)
            .send()
            .await
    }
}
