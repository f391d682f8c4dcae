//! What a clean close leaves behind: how far the log reached. A log that ends before it has lost
//! something, and says so.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use trunkline_core::Result;

use super::Found;
use crate::config::{LogConfig, Repair};
use crate::disk::sync_dir;
use crate::error;
use crate::format::{Fields, crc};
use crate::index::segment_path;

const MAGIC: &[u8; 8] = b"TLEND\x00\x00\x01";

fn seal_path(dir: &Path) -> PathBuf {
    dir.join("closed")
}

/// Notes that the log was closed with its end at `position` of `segment`.
pub(crate) fn write_seal(dir: &Path, log_id: u64, segment: u32, position: u64) -> Result<()> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&log_id.to_le_bytes());
    bytes.extend_from_slice(&segment.to_le_bytes());
    bytes.extend_from_slice(&position.to_le_bytes());
    bytes.extend_from_slice(&crc(log_id, &bytes).to_le_bytes());
    let path = seal_path(dir);
    let temporary = path.with_extension("new");
    let written = fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, &path))
        .and_then(|()| sync_dir(dir));
    written.map_err(|e| error::io("the end of the log can't be noted", &path, e))
}

fn read(bytes: &[u8]) -> Option<(u64, u32, u64)> {
    let mut fields = Fields(bytes.strip_prefix(MAGIC)?);
    let seal = (fields.u64()?, fields.u32()?, fields.u64()?);
    let sum = fields.u32()?;
    (crc(seal.0, bytes.get(..28)?) == sum && fields.0.is_empty()).then_some(seal)
}

/// Fails if the log ends before the place where it was closed. A note that is missing or damaged says
/// nothing.
pub(super) fn check(config: &LogConfig, found: &Found) -> Result<()> {
    let Ok(bytes) = fs::read(seal_path(&config.dir)) else {
        return Ok(());
    };
    let Some((log_id, segment, position)) = read(&bytes) else {
        return Ok(());
    };
    if found.active.is_some() && log_id != found.log_id {
        return Ok(());
    }
    if found.active.unwrap_or_default() < (segment, position) {
        if config.repair == Repair::Quarantine {
            super::remove_file(&seal_path(&config.dir));
            return Ok(());
        }
        let path = segment_path(&config.dir, segment);
        let at = found
            .active
            .filter(|(at, _)| *at == segment)
            .map_or(0, |(_, end)| end);
        let what = "the log ends before the place where it was closed";
        return Err(error::corrupt(what, &path, at).with("closed_at", position));
    }
    Ok(())
}
