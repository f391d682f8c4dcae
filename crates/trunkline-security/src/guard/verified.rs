//! Tokens whose signatures were checked a moment ago.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use trunkline_core::Timestamp;

use crate::ServiceClaims;

/// So long a signature is not checked anew: a key that is withdrawn is believed for so long more.
const BELIEVED_FOR: Duration = Duration::from_secs(60);
/// So many tokens are remembered at once; one more, and all are checked anew. Only valid ones are remembered, and a caller
/// has one at a time.
const REMEMBERED_MAX: usize = 1_024;

/// What each of these tokens says.
#[derive(Default)]
pub(super) struct Verified(RwLock<HashMap<Box<str>, Known>>);

struct Known {
    claims: Arc<ServiceClaims>,
    at: Timestamp,
}

impl Known {
    fn is_recent(&self, now: Timestamp) -> bool {
        // With the clock set back, a token is checked anew.
        let age = Duration::try_from(now.duration_since(self.at));
        age.is_ok_and(|age| age < BELIEVED_FOR)
    }
}

impl Verified {
    /// What a token says that was checked a moment ago.
    pub(super) fn find(&self, token: &str, now: Timestamp) -> Option<Arc<ServiceClaims>> {
        let known = self.0.read();
        let known = known.get(token).filter(|known| known.is_recent(now))?;
        Some(known.claims.clone())
    }

    /// Remembers a token that was checked now.
    pub(super) fn note(&self, token: &str, claims: Arc<ServiceClaims>, now: Timestamp) {
        let mut known = self.0.write();
        if known.len() >= REMEMBERED_MAX {
            known.retain(|_, known| known.is_recent(now));
            if known.len() >= REMEMBERED_MAX {
                known.clear();
            }
        }
        known.insert(token.into(), Known { claims, at: now });
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.read().len()
    }
}
