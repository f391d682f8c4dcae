//! A machine's books: each sale from the wish to its end, written down before anything is done about it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trunkline::{Error, Result};

use super::hardware::unusable;

/// So many sales are remembered: a command for an older one is refused.
const SALES_MAX: usize = 256;

/// What is written down of a sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    pub(super) sale_id: String,
    pub(super) slot: String,
    pub(super) stage: Stage,
}

/// How far a sale is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Stage {
    /// Somebody wants it.
    Asked,
    /// The motor is about to turn; so many pieces had fallen from the slot.
    Begun(u32),
    /// It has ended, and whether the piece fell.
    Ended(bool),
}

/// The sales, the oldest first, each as its last line says.
#[derive(Debug)]
pub(super) struct Books {
    path: PathBuf,
    file: File,
    sales: VecDeque<Entry>,
    lines: usize,
}

impl Books {
    /// Opens the books. A line that was being written when the power went is none.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("sales.jsonl");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(unusable(error)),
        };
        let mut sales = VecDeque::new();
        for entry in text
            .lines()
            .map_while(|line| serde_json::from_str(line).ok())
        {
            take(&mut sales, entry);
        }
        let file = rewritten(&path, &sales)?;
        let lines = sales.len();
        Ok(Self {
            path,
            file,
            sales,
            lines,
        })
    }

    /// The stage of a sale; none for one that is not known.
    pub(super) fn stage(&self, sale_id: &str) -> Option<Stage> {
        let mut sales = self.sales.iter().rev();
        Some(sales.find(|sale| sale.sale_id == sale_id)?.stage)
    }

    /// Sales that have not ended.
    pub(super) fn open_sales(&self) -> Vec<Entry> {
        let open = |sale: &&Entry| !matches!(sale.stage, Stage::Ended(_));
        self.sales.iter().filter(open).cloned().collect()
    }

    /// The last `max` sales that have ended, the oldest first, and whether their pieces fell.
    pub(super) fn ended(&self, max: usize) -> Vec<(String, bool)> {
        let ended = self.sales.iter().filter_map(|sale| match sale.stage {
            Stage::Ended(vended) => Some((sale.sale_id.clone(), vended)),
            _ => None,
        });
        let ended: Vec<_> = ended.collect();
        ended.into_iter().rev().take(max).rev().collect()
    }

    /// Writes down how far a sale is; it is on the disk when this returns.
    pub(super) fn write(&mut self, entry: Entry) -> Result<()> {
        let line = line(&entry)?;
        self.file.write_all(line.as_bytes()).map_err(unusable)?;
        self.file.sync_data().map_err(unusable)?;
        take(&mut self.sales, entry);
        self.lines += 1;
        if self.lines > SALES_MAX * 4 {
            self.file = rewritten(&self.path, &self.sales)?;
            self.lines = self.sales.len();
        }
        Ok(())
    }
}

fn take(sales: &mut VecDeque<Entry>, entry: Entry) {
    match sales
        .iter_mut()
        .rev()
        .find(|sale| sale.sale_id == entry.sale_id)
    {
        Some(sale) => *sale = entry,
        None => sales.push_back(entry),
    }
    if sales.len() > SALES_MAX {
        sales.pop_front();
    }
}

fn line(entry: &Entry) -> Result<String> {
    let text = serde_json::to_string(entry);
    let text = text.map_err(|error| Error::internal("a sale is JSON").with_source(error))?;
    Ok(text + "\n")
}

/// The books with one line for each sale, in place of what they were.
fn rewritten(path: &Path, sales: &VecDeque<Entry>) -> Result<File> {
    let new = path.with_extension("new");
    let text = sales.iter().map(line).collect::<Result<String>>()?;
    let mut file = File::create(&new).map_err(unusable)?;
    file.write_all(text.as_bytes()).map_err(unusable)?;
    file.sync_data().map_err(unusable)?;
    std::fs::rename(&new, path).map_err(unusable)?;
    OpenOptions::new().append(true).open(path).map_err(unusable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sale_id: &str, stage: Stage) -> Entry {
        Entry {
            sale_id: sale_id.to_owned(),
            slot: "A1".to_owned(),
            stage,
        }
    }

    #[test]
    fn what_was_written_is_known_after_a_restart_and_half_a_line_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut books = Books::open(folder.path()).unwrap();
        books.write(entry("a", Stage::Asked)).unwrap();
        books.write(entry("a", Stage::Ended(true))).unwrap();
        books.write(entry("b", Stage::Begun(7))).unwrap();
        drop(books);
        let file = folder.path().join("sales.jsonl");
        let mut torn = OpenOptions::new().append(true).open(&file).unwrap();
        torn.write_all(b"{\"saleId\":\"c\",\"slot\":\"A1\",\"sta")
            .unwrap();
        let mut books = Books::open(folder.path()).unwrap();
        assert_eq!(books.stage("a"), Some(Stage::Ended(true)));
        assert_eq!(books.open_sales(), [entry("b", Stage::Begun(7))]);
        assert_eq!(books.stage("c"), None);
        books.write(entry("d", Stage::Asked)).unwrap();
        let books = Books::open(folder.path()).unwrap();
        assert_eq!(books.stage("d"), Some(Stage::Asked), "after the torn line");
    }

    #[test]
    fn they_do_not_grow_without_bound() {
        let folder = tempfile::tempdir().unwrap();
        let mut books = Books::open(folder.path()).unwrap();
        for sale in 0..1_500 {
            books
                .write(entry(&sale.to_string(), Stage::Ended(true)))
                .unwrap();
        }
        assert_eq!(books.sales.len(), SALES_MAX);
        let text = std::fs::read_to_string(folder.path().join("sales.jsonl")).unwrap();
        assert!(text.lines().count() <= SALES_MAX * 4 + 1);
        assert_eq!(books.ended(1), [("1499".to_owned(), true)]);
    }
}
