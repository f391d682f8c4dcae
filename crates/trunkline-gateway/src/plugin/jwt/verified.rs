//! Consumers' tokens whose signatures were checked before.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use trunkline_core::ByteString;
use trunkline_security::Times;

use crate::consumers::Member;

/// So many tokens are remembered anew, and as many of those before them; then the older ones are checked again.
const REMEMBERED_MAX: usize = 4_096;

/// What is known of a token that one of the consumers' keys signed. Whether it is valid now is not.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) member: Arc<Member>,
    /// By which of their keys.
    pub(super) key: ByteString,
    pub(super) times: Times,
}

/// The tokens that were checked, each by its digest: how long a look-up takes tells nothing of a token.
///
/// # Guarantees
/// It lives as long as the keys that it was filled by, which are those of one configuration: a key that is taken out of the
/// file takes its tokens along. Only tokens that were signed are remembered, so that nobody else can crowd them out.
#[derive(Debug, Default)]
pub(super) struct Verified(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    newer: HashMap<[u8; 32], Known>,
    older: HashMap<[u8; 32], Known>,
}

/// The digest of a token, its signature included.
pub(super) fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl Verified {
    pub(super) fn find(&self, digest: &[u8; 32]) -> Option<Known> {
        let mut all = self.0.lock();
        if let Some(known) = all.newer.get(digest) {
            return Some(known.clone());
        }
        let known = all.older.remove(digest)?;
        all.add(*digest, known.clone());
        Some(known)
    }

    pub(super) fn note(&self, digest: [u8; 32], known: Known) {
        self.0.lock().add(digest, known);
    }
}

impl Generations {
    fn add(&mut self, digest: [u8; 32], known: Known) {
        if self.newer.len() >= REMEMBERED_MAX {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(digest, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known {
            member: Arc::new(Member {
                username: "anna".into(),
                custom_id: None,
                groups: Vec::new(),
            }),
            key: "k".into(),
            times: Times::default(),
        }
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_is_forgotten_in_time() {
        let verified = Verified::default();
        let (used, unused) = (digest("used"), digest("unused"));
        verified.note(used, known());
        verified.note(unused, known());
        for n in 0..3 * REMEMBERED_MAX {
            verified.note(digest(&n.to_string()), known());
            assert!(verified.find(&used).is_some(), "after {n}");
        }
        assert!(verified.find(&unused).is_none());
        let all = verified.0.lock();
        assert!(all.newer.len() + all.older.len() <= 2 * REMEMBERED_MAX);
    }
}
