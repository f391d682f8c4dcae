//! What the documents name has to be there: files, tests, and symbols of the code.

use std::collections::HashSet;

use super::File;

/// The documents whose `code` names files or symbols of this repository.
const MAP: &str = "ARCHITECTURE.md";
const REQUIREMENTS: &str = "docs/requirements.md";
const WITH_PATHS: &[&str] = &[MAP, REQUIREMENTS, "README.md", "CONTRIBUTING.md"];
/// Words before a name that declare it.
const DECLARES: &[&str] = &[
    "struct",
    "enum",
    "trait",
    "type",
    "fn",
    "const",
    "static",
    "mod",
    "macro_rules!",
];

pub(super) fn check(files: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for needed in WITH_PATHS {
        if !files.iter().any(|file| file.path == *needed) {
            problems.push(format!("{needed}: expected this document"));
        }
    }
    let declared = declared(files);
    for file in files {
        if !WITH_PATHS.contains(&&*file.path) {
            continue;
        }
        for (line, code) in codes(&file.text) {
            let wrong = match place(code) {
                Some(path) => missing_place(path, files),
                None if file.path == MAP => missing_symbol(code, &declared),
                None => None,
            };
            if let Some(wrong) = wrong {
                problems.push(format!("{}:{line}: {wrong}", file.path));
            }
        }
    }
    problems
}

/// The words between single backticks outside of fenced blocks, each with its line.
fn codes(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let words = line.split('`').skip(1).step_by(2);
            found.extend(words.map(|word| (index + 1, word)));
        }
    }
    found
}

/// A path of the repository: it has a slash or a known ending, and no placeholder, space or leading slash or dot.
fn place(code: &str) -> Option<&str> {
    let (path, _) = code.split_once("::").unwrap_or((code, ""));
    let endings = [".rs", ".md", ".toml", ".json", ".sql"];
    let looks = path.contains('/') || endings.iter().any(|ending| path.ends_with(ending));
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let first = path.chars().next()?;
    let ours = (first.is_ascii_alphanumeric() || path.starts_with(".c")) && path.chars().all(plain);
    // What a program writes when it runs is not in the repository.
    let written = path.starts_with("data/") || path.starts_with("application/");
    (looks && ours && !written).then_some(code)
}

/// What is wrong with `path` or `path::test`, if something is.
fn missing_place(code: &str, files: &[File]) -> Option<String> {
    let (path, name) = code.split_once("::").unwrap_or((code, ""));
    let folder = format!("{}/", path.trim_end_matches('/'));
    let Some(file) = files.iter().find(|file| file.path == path) else {
        let is_folder = files.iter().any(|file| file.path.starts_with(&folder));
        let end = format!("/{path}");
        let is_named = files.iter().any(|file| file.path.ends_with(&end));
        return (!is_folder && !is_named).then(|| format!("there is no `{path}`"));
    };
    let name = name.rsplit("::").next().unwrap_or_default();
    let declared = name.is_empty() || file.text.contains(&format!("fn {name}("));
    (!declared).then(|| format!("`{path}` has no `{name}`"))
}

/// What is wrong with a symbol such as `Type`, `Type::method` or `module::function`, if something is.
fn missing_symbol(code: &str, declared: &HashSet<&str>) -> Option<String> {
    let parts: Vec<&str> = code.split("::").collect();
    let name = |part: &&str| {
        let mut chars = part.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic())
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if !parts.iter().all(name) {
        return None;
    }
    // A single word in small letters may be any word: a setting, a method of HTTP.
    let first = parts.first()?;
    if parts.len() == 1 && !first.starts_with(|c: char| c.is_ascii_uppercase()) {
        return None;
    }
    let unknown = parts.iter().find(|part| !declared.contains(**part))?;
    Some(format!("the code declares no `{unknown}`"))
}

/// Every name that the code declares, variants of enums and fields not among them.
fn declared(files: &[File]) -> HashSet<&str> {
    let mut names = HashSet::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let mut words = file
            .text
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '!'))
            .filter(|word| !word.is_empty())
            .peekable();
        while let Some(word) = words.next() {
            if DECLARES.contains(&word)
                && let Some(name) = words.peek()
            {
                names.insert(*name);
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        let file = |path: &str, text: &str| File {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let mut files = vec![file(
            "crates/a/src/b.rs",
            "pub struct Bus;\nmod server;\nfn layer() {}\n",
        )];
        for needed in WITH_PATHS {
            let text = if path == *needed { text } else { "" };
            files.push(file(needed, text));
        }
        check(&files)
    }

    #[test]
    fn a_file_that_is_gone_is_told_with_its_line() {
        let told = problems(REQUIREMENTS, "\n| F01 | `crates/a/src/gone.rs` |\n");
        assert_eq!(
            told,
            ["docs/requirements.md:2: there is no `crates/a/src/gone.rs`"]
        );
        assert!(
            problems(
                REQUIREMENTS,
                "`crates/a/src/b.rs` `crates/a/` `b.rs` `/api/v1/x`"
            )
            .is_empty()
        );
    }

    #[test]
    fn a_test_that_is_gone_is_told() {
        assert!(problems(REQUIREMENTS, "`crates/a/src/b.rs::layer`").is_empty());
        let told = problems(REQUIREMENTS, "`crates/a/src/b.rs::tests::gone`");
        assert_eq!(
            told,
            ["docs/requirements.md:1: `crates/a/src/b.rs` has no `gone`"]
        );
    }

    #[test]
    fn a_symbol_that_is_gone_is_told_in_the_map() {
        assert!(problems(MAP, "`Bus` has `server::layer`, `POST /x`, `always`").is_empty());
        let told = problems(MAP, "`Buss` and `server::gone`\n```\n`Nothing`\n```\n");
        assert_eq!(
            told,
            [
                "ARCHITECTURE.md:1: the code declares no `Buss`",
                "ARCHITECTURE.md:1: the code declares no `gone`"
            ]
        );
    }

    #[test]
    fn a_document_that_is_missing_is_told() {
        assert_eq!(check(&[]).len(), WITH_PATHS.len());
    }
}
