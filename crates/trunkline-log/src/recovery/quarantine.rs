//! What a repair does with what can't be read, when it is asked to.

use std::fs;
use std::path::Path;

use trunkline_core::{Error, Result};

use super::{Work, cut};
use crate::config::Repair;
use crate::error;

impl Work<'_> {
    /// From `at` on the file is not what was written, though a batch follows at `later`.
    pub(super) fn give_up_rest(&mut self, path: &Path, at: u64, later: u64) -> Result<()> {
        if self.config.repair == Repair::Refuse {
            let what = "a batch is damaged and the log goes on after it";
            return Err(error::corrupt(what, path, at).with("goes_on_at", later));
        }
        let kept = path.with_extension(format!("{at}.quarantine"));
        let failed = |e| error::io("what is damaged can't be moved", &kept, e);
        let bytes = fs::read(path).map_err(failed)?;
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        fs::write(&kept, bytes.get(from..).unwrap_or_default()).map_err(failed)?;
        fs::File::open(&kept)
            .and_then(|file| file.sync_all())
            .map_err(failed)?;
        cut(path, at)?;
        self.gave_up(path, at);
        Ok(())
    }

    /// A whole segment is missing or not ours.
    pub(super) fn give_up_segment(&mut self, segment: u32, error: Error) -> Result<()> {
        if self.config.repair == Repair::Refuse {
            return Err(error);
        }
        let path = self.path(segment);
        if path.exists() {
            let kept = path.with_extension("quarantine");
            fs::rename(&path, &kept)
                .map_err(|e| error::io("what is damaged can't be moved", &kept, e))?;
        }
        self.found.catalog.live.remove(&segment);
        self.found.given_up.push(segment);
        self.gave_up(&path, 0);
        Ok(())
    }

    fn gave_up(&mut self, path: &Path, at: u64) {
        tracing::warn!(file = %path.display(), byte = at, "a part of the log was quarantined");
        self.found
            .recovery
            .quarantined
            .push(format!("{} at {at}", path.display()));
    }
}
