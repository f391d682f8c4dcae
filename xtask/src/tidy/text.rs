//! Rules on single files: how long, how named, and what must not stand in them.

use super::File;

/// The most lines of a file, tests not counted.
const LINES_MAX: usize = 600;

/// Words that must not stand anywhere, in pieces so that this file may name them: where somebody works, and marks
/// of unfinished work.
const FORBIDDEN: &[(&[&str], &str)] = &[
    (&["/wo", "rk/"], "a path of somebody's workplace"),
    (&["/ho", "me/"], "a path of somebody's workplace"),
    (&["/ro", "ot/"], "a path of somebody's workplace"),
    (&["TO", "DO"], "unfinished work"),
    (&["FIX", "ME"], "unfinished work"),
    (&["X", "XX"], "unfinished work"),
];

pub(super) fn check(files: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files {
        problems.extend(forbidden(file));
        if file.path.ends_with(".rs") {
            problems.extend(lines(file));
            problems.extend(ignored(file));
        }
        if file.path.ends_with("/mod.rs") {
            problems.push(format!("{}: expected `name.rs` beside `name/`", file.path));
        }
    }
    problems
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.contains("/benches/")
}

fn lines(file: &File) -> Option<String> {
    if is_test(&file.path) {
        return None;
    }
    let lines = file
        .text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .map_or(0, |text| text.lines().count());
    (lines > LINES_MAX).then(|| {
        format!(
            "{}: {lines} lines without tests, expected at most {LINES_MAX}",
            file.path
        )
    })
}

fn forbidden(file: &File) -> Vec<String> {
    // Others write the names of packages and their homes.
    if file.path.ends_with(".lock") {
        return Vec::new();
    }
    let mut problems = Vec::new();
    for (pieces, what) in FORBIDDEN {
        let word = pieces.concat();
        for (number, line) in file.text.lines().enumerate() {
            if stands_alone(line, &word) {
                let place = format!("{}:{}", file.path, number + 1);
                problems.push(format!("{place}: `{word}` is {what}"));
            }
        }
    }
    problems
}

/// Whether the word stands in the line, and not as part of a longer one.
fn stands_alone(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '.' || c == '}';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line
            .get(at + word.len()..)
            .and_then(|text| text.chars().next());
        let ends_open = word.ends_with('/');
        !before.is_some_and(part) && (ends_open || !after.is_some_and(part))
    })
}

/// A test that is left out says why.
fn ignored(file: &File) -> Vec<String> {
    let bare = ["#[", "ignore]"].concat();
    let lines = file.text.lines().enumerate();
    lines
        .filter(|(_, line)| line.trim_start().starts_with(&bare))
        .map(|(number, _)| {
            format!(
                "{}:{}: expected a reason why the test is left out",
                file.path,
                number + 1
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        let (path, text) = (path.to_owned(), text.to_owned());
        check(&[File { path, text }])
    }

    #[test]
    fn a_long_file_is_told_and_tests_do_not_count() {
        let long = "x\n".repeat(601);
        let with_tests = format!("x\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
        assert_eq!(problems("crates/a/src/b.rs", &long).len(), 1);
        assert!(problems("crates/a/src/b.rs", &with_tests).is_empty());
        assert!(problems("crates/a/src/b/tests.rs", &long).is_empty());
        assert!(problems("crates/a/tests/it/b.rs", &long).is_empty());
        assert!(problems("docs/long.md", &long).is_empty());
    }

    #[test]
    fn a_workplace_and_unfinished_work_are_told_with_their_line() {
        let path = ["see /wo", "rk/main"].concat();
        let told = problems("README.md", &format!("fine\n{path}\n"));
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("README.md:2: "), "{told:?}");
        let mark = ["TO", "DO"].concat();
        assert_eq!(problems("a.rs", &format!("// {mark}: it")).len(), 1);
        assert!(problems("a.rs", &format!("{mark}S and METHOD{mark}")).is_empty());
        assert!(problems("a.rs", "{dir}/work/x, a/work/x, frame/work").is_empty());
        assert!(problems("Cargo.lock", &path).is_empty());
    }

    #[test]
    fn old_names_and_tests_without_reason_are_told() {
        assert_eq!(problems("crates/a/src/b/mod.rs", "").len(), 1);
        let bare = ["#[", "ignore]"].concat();
        assert_eq!(problems("a.rs", &format!("    {bare}\n")).len(), 1);
        let reason = ["#[", "ignore = \"issue 7\"]"].concat();
        assert!(problems("a.rs", &reason).is_empty());
    }
}
