//! What `Cache-Control` says.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, PRAGMA};

/// The directives of a request or an answer that are heeded.
///
/// # Source
/// RFC 9111, 5.2; RFC 5861 for `stale-if-error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Control {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) must_revalidate: bool,
    pub(super) private: bool,
    pub(super) public: bool,
    max_age: Option<Duration>,
    shared_max_age: Option<Duration>,
    pub(super) stale_if_error: Option<Duration>,
}

impl Control {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            // What can't be read forbids.
            let Ok(line) = line.to_str() else {
                control.no_store = true;
                continue;
            };
            for directive in line.split(',') {
                control.take(directive);
            }
        }
        if !headers.contains_key(CACHE_CONTROL)
            && headers.get(PRAGMA).is_some_and(|said| said == "no-cache")
        {
            control.no_cache = true;
        }
        control
    }

    fn take(&mut self, directive: &str) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        // A time that can't be read is no time at all.
        let seconds = || {
            let text = value.trim().trim_matches('"');
            Some(Duration::from_secs(text.parse().unwrap_or(0)))
        };
        match &*name.trim().to_ascii_lowercase() {
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache = true,
            "must-revalidate" | "proxy-revalidate" => self.must_revalidate = true,
            "private" => self.private = true,
            "public" => self.public = true,
            "max-age" => self.max_age = shorter(self.max_age, seconds()),
            "s-maxage" => self.shared_max_age = shorter(self.shared_max_age, seconds()),
            "stale-if-error" => self.stale_if_error = shorter(self.stale_if_error, seconds()),
            _ => {}
        }
    }

    /// How long an answer is good without asking again.
    pub(super) fn fresh_for(&self) -> Duration {
        if self.no_cache {
            return Duration::ZERO;
        }
        self.shared_max_age.or(self.max_age).unwrap_or_default()
    }

    /// Whether a request insists on being asked.
    pub(super) fn insists(&self) -> bool {
        self.no_cache || self.max_age == Some(Duration::ZERO)
    }
}

fn shorter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(lines: &[&str]) -> Control {
        let values = lines
            .iter()
            .map(|line| (CACHE_CONTROL, line.parse().unwrap()));
        Control::of(&values.collect())
    }

    #[test]
    fn directives_are_read_whatever_their_form_and_garbage_is_no_time() {
        let seconds = Duration::from_secs;
        assert_eq!(control(&["max-age=60"]).fresh_for(), seconds(60));
        assert_eq!(
            control(&["Public , MAX-AGE=\"60\""]).fresh_for(),
            seconds(60)
        );
        assert_eq!(
            control(&["max-age=60, s-maxage=10"]).fresh_for(),
            seconds(10)
        );
        assert_eq!(control(&["max-age=60, max-age=5"]).fresh_for(), seconds(5));
        assert_eq!(control(&["max-age=60", "no-cache"]).fresh_for(), seconds(0));
        for garbage in ["max-age=", "max-age=-1", "max-age=1e9", "max-age"] {
            assert_eq!(control(&[garbage]).fresh_for(), seconds(0), "{garbage}");
        }
        assert!(control(&["private=\"set-cookie\""]).private);
        assert!(control(&["x, No-Store"]).no_store);
        assert!(control(&["max-age=0"]).insists() && !control(&["max-age=1"]).insists());
        let unreadable = [(
            CACHE_CONTROL,
            http::HeaderValue::from_bytes(b"\xff").unwrap(),
        )];
        assert!(Control::of(&unreadable.into_iter().collect()).no_store);
        assert_eq!(control(&[]), Control::default());
    }
}
