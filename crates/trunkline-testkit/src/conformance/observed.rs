//! What a run of the suite saw of an engine, for the table in `docs/guides/choose-an-engine.md`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use trunkline_bus::Capabilities;

use super::{Case, faults};

/// The environment variable that names a folder; a whole run writes there what it saw.
pub(super) const FOLDER: &str = "TRUNKLINE_OBSERVED";

/// The cases of one run that passed.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed(Arc<Mutex<BTreeSet<&'static str>>>);

impl Observed {
    pub(super) fn passed(&self, case: &'static str) {
        self.0.lock().insert(case);
    }

    /// Writes `{engine}.tsv`: a line for each capability, and for each fault that the server was given.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(super) fn write(
        &self,
        folder: &Path,
        engine: &str,
        capabilities: &Capabilities,
        cases: &[Case],
    ) -> std::io::Result<()> {
        let text = self.table(capabilities, cases);
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join(format!("{engine}.tsv")), text)
    }

    /// What was seen: `yes` or `no` where cases showed it, `said` where the engine says no and no case can show it,
    /// `failed` where one of them did not pass.
    fn table(&self, capabilities: &Capabilities, cases: &[Case]) -> String {
        let passed = self.0.lock();
        let mut text = String::new();
        for name in names(cases) {
            let about = cases.iter().filter_map(|case| {
                let need = case.needs.as_ref().filter(|need| need.name == name)?;
                let has = (need.has)(capabilities);
                (need.wanted == has).then_some((has, passed.contains(case.name)))
            });
            let seen: Vec<(bool, bool)> = about.collect();
            let word = match seen.first() {
                _ if seen.iter().any(|(_, passed)| !passed) => "failed",
                Some((true, _)) => "yes",
                Some((false, _)) => "no",
                None => "said",
            };
            text.push_str(&format!("{name}\t{word}\n"));
        }
        for fault in faults::all() {
            if passed.contains(fault.name) {
                text.push_str(&format!("{}\tyes\n", fault.name));
            }
        }
        text
    }
}

/// The capabilities that cases are about.
fn names(cases: &[Case]) -> BTreeSet<&'static str> {
    let needs = cases.iter().filter_map(|case| case.needs.as_ref());
    needs.map(|need| need.name).collect()
}

#[cfg(test)]
mod tests {
    use super::super::all;
    use super::*;

    #[test]
    fn what_was_not_seen_is_not_told() {
        let observed = Observed::default();
        let cases = all();
        let mut capabilities = Capabilities::default();
        capabilities.durable = true;
        let table = observed.table(&capabilities, &cases);
        assert!(table.contains("durable\tfailed\n"), "{table}");
        assert!(table.contains("ordered_by_key\tsaid\n"), "{table}");
        for case in &cases {
            observed.passed(case.name);
        }
        observed.passed("a_killed_server_loses_nothing");
        let table = observed.table(&capabilities, &cases);
        for line in [
            "durable\tyes\n",
            "replay\tno\n",
            "a_killed_server_loses_nothing\tyes\n",
        ] {
            assert!(table.contains(line), "{line}: {table}");
        }
        assert!(!table.contains("failed") && !table.contains("paused"));
    }
}
