//! Consumers' tokens whose signatures were checked before.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::mem;
use std::sync::Arc;

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use trunkline_core::ByteString;
use trunkline_security::Times;

use crate::consumers::Member;

/// So many tokens are remembered anew, and as many of those before them; then the older ones are checked again.
const REMEMBERED_MAX: usize = 4_096;
/// A longer token is checked each time.
const TOKEN_BYTES_MAX: usize = 4_096;

/// What is known of a token that one of the consumers' keys signed. Whether it is valid now is not.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) member: Arc<Member>,
    /// By which of their keys.
    pub(super) key: ByteString,
    pub(super) times: Times,
}

/// The tokens that were checked, each by a hash with a secret of this process and compared whole: how long a look-up takes
/// tells nothing of a token.
///
/// # Guarantees
/// It lives as long as the keys that it was filled by, which are those of one configuration: a key that is taken out of the
/// file takes its tokens along. Only tokens that were signed are remembered, so that nobody else can crowd them out.
#[derive(Default)]
pub(super) struct Verified {
    hashes: RandomState,
    tokens: Mutex<Generations>,
}

/// Of two tokens with one hash the later one is remembered.
#[derive(Default)]
struct Generations {
    newer: HashMap<u64, Token, RandomState>,
    older: HashMap<u64, Token, RandomState>,
}

struct Token {
    text: Box<str>,
    known: Known,
}

impl Token {
    /// Whether it is this one. It takes the same time wherever they begin to differ.
    fn is(&self, text: &str) -> bool {
        let both = self.text.bytes().zip(text.bytes());
        let differ = both.fold(0, |differ, (ours, theirs)| differ | (ours ^ theirs));
        self.text.len() == text.len() && differ == 0
    }
}

impl Verified {
    pub(super) fn find(&self, token: &str) -> Option<Known> {
        let hash = self.hashes.hash_one(token);
        let mut all = self.tokens.lock();
        if let Some(found) = all.newer.get(&hash) {
            return found.is(token).then(|| found.known.clone());
        }
        let found = all.older.remove(&hash).filter(|found| found.is(token))?;
        let known = found.known.clone();
        all.add(hash, found);
        Some(known)
    }

    pub(super) fn note(&self, token: &str, known: Known) {
        if token.len() > TOKEN_BYTES_MAX {
            return;
        }
        let hash = self.hashes.hash_one(token);
        let text = token.into();
        self.tokens.lock().add(hash, Token { text, known });
    }
}

impl Generations {
    fn add(&mut self, hash: u64, token: Token) {
        if self.newer.len() >= REMEMBERED_MAX {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(hash, token);
    }
}

impl fmt::Debug for Verified {
    // Tokens are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").finish_non_exhaustive()
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
        let (used, unused) = ("used", "unused");
        verified.note(used, known());
        verified.note(unused, known());
        for n in 0..3 * REMEMBERED_MAX {
            verified.note(&n.to_string(), known());
            assert!(verified.find(used).is_some(), "after {n}");
        }
        assert!(verified.find(unused).is_none());
        let all = verified.tokens.lock();
        assert!(all.newer.len() + all.older.len() <= 2 * REMEMBERED_MAX);
    }

    #[test]
    fn only_the_whole_token_is_known_and_a_long_one_is_not() {
        let verified = Verified::default();
        let token = "a.b.c";
        verified.note(token, known());
        assert!(verified.find(token).is_some());
        // Even where hashes are alike.
        let hash = verified.hashes.hash_one(token);
        for other in ["a.b.d", "x.b.c", "a.b.", "a.b.cc", ""] {
            assert!(verified.find(other).is_none(), "{other}");
            let all = verified.tokens.lock();
            assert!(!all.newer[&hash].is(other), "{other}");
        }
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        verified.note(&long, known());
        assert!(verified.find(&long).is_none());
    }
}
