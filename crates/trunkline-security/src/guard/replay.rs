//! Tokens that were used, for operations that take each once.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use trunkline_core::{ByteString, Error, ErrorKind, Result};

use crate::error::replayed;

/// So many are remembered at once; while there are as many that are still valid, further ones are refused.
pub(super) const SEEN_MAX: usize = 100_000;

/// The tokens that were used and are still valid, in this process.
#[derive(Default)]
pub(super) struct Seen(Mutex<Both>);

#[derive(Default)]
struct Both {
    ids: BTreeSet<(ByteString, ByteString)>,
    by_end: BTreeSet<(i64, ByteString, ByteString)>,
}

impl Seen {
    /// Notes a token that is valid until `until`, unless it was noted before.
    pub(super) fn first(
        &self,
        issuer: &ByteString,
        id: &ByteString,
        until: i64,
        now: i64,
    ) -> Result<()> {
        let mut both = self.0.lock();
        while let Some(first) = both.by_end.first()
            && first.0 <= now
        {
            if let Some((_, issuer, id)) = both.by_end.pop_first() {
                both.ids.remove(&(issuer, id));
            }
        }
        let name = (issuer.clone(), id.clone());
        if both.ids.contains(&name) {
            return Err(replayed());
        }
        if both.ids.len() >= SEEN_MAX {
            return Err(Error::new(
                ErrorKind::Overloaded,
                "replay_memory_full",
                "too many single-use tokens are in use to remember another",
            ));
        }
        both.by_end.insert((until, issuer.clone(), id.clone()));
        both.ids.insert(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seen: &Seen, id: &str, until: i64, now: i64) -> String {
        let done = seen.first(&"i".into(), &id.into(), until, now);
        done.map_or_else(|error| error.code().to_owned(), |()| "first".to_owned())
    }

    #[test]
    fn each_is_taken_once_while_it_is_valid() {
        let seen = Seen::default();
        assert_eq!(first(&seen, "a", 10, 0), "first");
        assert_eq!(first(&seen, "a", 10, 9), "token_replayed");
        assert_eq!(first(&seen, "b", 20, 9), "first");
        assert_eq!(first(&seen, "a", 30, 10), "first", "it had ended");
        assert_eq!(first(&seen, "b", 20, 10), "token_replayed");
    }

    #[test]
    fn a_full_memory_refuses_instead_of_forgetting() {
        let seen = Seen::default();
        for n in 0..SEEN_MAX {
            let until = i64::try_from(n).unwrap();
            assert_eq!(first(&seen, &n.to_string(), until + 1, 0), "first");
        }
        assert_eq!(first(&seen, "more", 100, 0), "replay_memory_full");
        assert_eq!(first(&seen, "5", 6, 0), "token_replayed");
        assert_eq!(first(&seen, "more", 100, 1), "first");
    }
}
