//! Where the gateway and nginx differ, and why.

/// One difference.
pub(super) struct Difference {
    /// The request of the corpus.
    pub(super) name: &'static str,
    pub(super) ours: &'static str,
    pub(super) nginx: &'static str,
    pub(super) why: &'static str,
}

impl Difference {
    /// As it stands in the documentation.
    pub(super) fn row(&self) -> String {
        let text = |told: &str| told.replace('|', "\\|");
        format!(
            "| `{}` | {} | {} | {} |",
            self.name,
            text(self.ours),
            text(self.nginx),
            self.why
        )
    }
}

pub(super) const ALL: &[Difference] = &[];
