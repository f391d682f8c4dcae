//! The date of answers.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use trunkline_core::Timestamp;

/// Does this with the date, which a thread makes once a second.
pub(super) fn dated<T>(now: Timestamp, with: impl FnOnce(&HeaderValue) -> T) -> T {
    thread_local! {
        static MADE: RefCell<Option<(i64, HeaderValue)>> = const { RefCell::new(None) };
    }
    MADE.with_borrow_mut(|made| match made {
        Some((second, value)) if *second == now.as_second() => with(value),
        _ => {
            // HTTP has no dates before 1970.
            let since = u64::try_from(now.as_second()).unwrap_or_default();
            let text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(since));
            let value = HeaderValue::try_from(text);
            let value = value.unwrap_or(HeaderValue::from_static(""));
            with(&made.insert((now.as_second(), value)).1)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_made_anew_each_second() {
        let at = |second| dated(Timestamp::from_second(second).unwrap(), HeaderValue::clone);
        assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_778), "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(at(-1), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
