//! Putting a service's own path before the request's.

/// The path that a service with a path of its own is asked for. `rest` is what is left of the request's path where the
/// route takes its prefix off.
///
/// # Source
/// Kong's `path_handling: v0`, as its documentation of routes has it in a table.
pub(crate) fn join(base: &str, path: &str, rest: Option<&str>) -> String {
    let plain = base.strip_suffix('/').unwrap_or(base);
    let ends_in_slash = plain.len() < base.len();
    let after = match rest {
        // Nothing is left: whether it ends in a slash is the request's to say, where it can.
        Some("") if path.len() > 1 && path.ends_with('/') => "/",
        Some("") => "",
        Some(rest) => rest,
        None if path == "/" && !ends_in_slash => "",
        None => path,
    };
    let slash = match after {
        "" if plain.is_empty() => "/",
        "" => "",
        _ if after.starts_with('/') => "",
        _ => "/",
    };
    [plain, slash, after].concat()
}

#[cfg(test)]
mod tests {
    use super::join;

    #[test]
    fn a_path_is_joined_as_kong_does() {
        // The service's path, the request's, what is left of it, and what the service is asked for.
        let rows = [
            ("/", "/", None, "/"),
            ("/", "/a/", None, "/a/"),
            ("/", "/a", Some(""), "/"),
            ("/", "/a/", Some(""), "/"),
            ("/", "/ab", Some("b"), "/b"),
            ("/", "/a/b", Some("/b"), "/b"),
            ("/s", "/", None, "/s"),
            ("/s", "/", Some(""), "/s"),
            ("/s", "/a", None, "/s/a"),
            ("/s", "/a", Some(""), "/s"),
            ("/s", "/a/", Some(""), "/s/"),
            ("/s", "/a/", Some("/"), "/s/"),
            ("/s", "/ab", Some("b"), "/s/b"),
            ("/s", "/a/b", Some("/b"), "/s/b"),
            ("/s/", "/", None, "/s/"),
            ("/s/", "/a", None, "/s/a"),
            ("/s/", "/a", Some(""), "/s"),
            ("/s/", "/a/", Some(""), "/s/"),
            ("/s/", "/ab", Some("b"), "/s/b"),
            ("/s/", "/a/b", Some("/b"), "/s/b"),
        ];
        for (base, path, rest, expected) in rows {
            assert_eq!(join(base, path, rest), expected, "{base} {path} {rest:?}");
        }
    }
}
