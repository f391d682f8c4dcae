//! Rules on the structure of the repository that no compiler checks.

mod arrows;
mod named;
mod text;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A file of the repository: its path from the root, and its text.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All problems, each with its place.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let files = files(root)?;
    let mut problems = Vec::new();
    problems.extend(text::check(&files));
    problems.extend(arrows::check(&files)?);
    problems.extend(named::check(&files));
    problems.sort();
    Ok(problems)
}

/// The text files that git knows or would take up. What git ignores is nobody's business.
fn files(root: &Path) -> Result<Vec<File>> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output()
        .context("git ls-files")?;
    if !listed.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    }
    let mut files = Vec::new();
    for path in String::from_utf8(listed.stdout)?.split_terminator('\0') {
        // A file that is deleted but not yet committed so is listed too; one that is no text has no rules.
        if let Ok(text) = std::fs::read_to_string(root.join(path)) {
            let path = path.to_owned();
            files.push(File { path, text });
        }
    }
    Ok(files)
}
