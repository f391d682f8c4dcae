//! What of a machine is metal: its slots, and the tray that pieces fall into. It outlives whoever controls it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use trunkline::{Error, Result};

use crate::events::Count;

/// A slot as it was filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// Its name, such as `A1`.
    pub slot: String,
    /// The product in it.
    pub product_id: String,
    /// Pieces that were put into it.
    pub pieces: u32,
}

/// The slots, and what has fallen. Each piece that falls is a line of `tray.log`: the name of its slot.
#[derive(Debug)]
pub(super) struct Hardware {
    filled: Vec<Filled>,
    fallen: BTreeMap<String, u32>,
    tray: File,
}

impl Hardware {
    pub(super) fn open(folder: &Path, filled: Vec<Filled>) -> Result<Self> {
        let path = folder.join("tray.log");
        let tray = OpenOptions::new().create(true).append(true).open(&path);
        let tray = tray.map_err(unusable)?;
        let mut fallen = BTreeMap::<String, u32>::new();
        for slot in std::fs::read_to_string(&path).map_err(unusable)?.lines() {
            *fallen.entry(slot.to_owned()).or_default() += 1;
        }
        Ok(Self {
            filled,
            fallen,
            tray,
        })
    }

    /// The slots, in order.
    pub(super) fn slots(&self) -> impl Iterator<Item = &str> {
        self.filled.iter().map(|filled| filled.slot.as_str())
    }

    /// Pieces that have fallen from a slot.
    pub(super) fn fallen(&self, slot: &str) -> u32 {
        self.fallen.get(slot).copied().unwrap_or_default()
    }

    pub(super) fn left(&self, slot: &str) -> u32 {
        let filled = self.filled.iter().find(|filled| filled.slot == slot);
        filled.map_or(0, |filled| filled.pieces.saturating_sub(self.fallen(slot)))
    }

    /// A piece falls.
    pub(super) fn drop_piece(&mut self, slot: &str) -> Result<()> {
        let line = format!("{slot}\n");
        self.tray.write_all(line.as_bytes()).map_err(unusable)?;
        *self.fallen.entry(slot.to_owned()).or_default() += 1;
        Ok(())
    }

    /// What lies in it.
    pub(super) fn count(&self) -> Vec<Count> {
        let mut counts = BTreeMap::<&str, u32>::new();
        for filled in &self.filled {
            *counts.entry(&filled.product_id).or_default() += self.left(&filled.slot);
        }
        let counts = counts.into_iter().map(|(product_id, quantity)| Count {
            product_id: product_id.to_owned(),
            quantity,
        });
        counts.collect()
    }
}

pub(super) fn unusable(error: std::io::Error) -> Error {
    Error::unavailable(
        "machine_folder_unusable",
        "the machine's folder can't be used",
    )
    .with_source(error)
}
