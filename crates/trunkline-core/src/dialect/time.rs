//! Times in RFC 3339.

use jiff::Timestamp;

/// Reads a time. What publishers write, a time of UTC since 1970, is read without the machinery of parsing.
pub(super) fn read(text: &str) -> Option<Timestamp> {
    usual(text.as_bytes()).or_else(|| text.parse().ok())
}

/// `2024-01-15T10:30:00.25Z`; `None` for what is written otherwise or is no time.
fn usual(text: &[u8]) -> Option<Timestamp> {
    let (head, rest) = text.split_first_chunk::<19>()?;
    let [y0, y1, y2, y3, b'-', rest_of_head @ ..] = head else {
        return None;
    };
    let [m0, m1, b'-', d0, d1, b'T', clock @ ..] = rest_of_head else {
        return None;
    };
    let [h0, h1, b':', n0, n1, b':', s0, s1] = clock else {
        return None;
    };
    let year = number(&[*y0, *y1, *y2, *y3])?;
    let (month, day) = (number(&[*m0, *m1])?, number(&[*d0, *d1])?);
    let (hour, minute) = (number(&[*h0, *h1])?, number(&[*n0, *n1])?);
    let second = number(&[*s0, *s1])?;
    let clock_is_right = hour < 24 && minute < 60 && second < 60;
    if year < 1970 || day == 0 || day > days_of(year, month)? || !clock_is_right {
        return None;
    }
    let nanos = match rest.strip_suffix(b"Z")? {
        [] => 0,
        [b'.', digits @ ..] => fraction(digits)?,
        _ => return None,
    };
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Timestamp::new(seconds, nanos).ok()
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + i64::from(byte - b'0'))
    })
}

/// Nanoseconds from one to nine digits.
fn fraction(digits: &[u8]) -> Option<i32> {
    let missing = 9_u32.checked_sub(u32::try_from(digits.len()).ok()?)?;
    if digits.is_empty() {
        return None;
    }
    i32::try_from(number(digits)? * 10_i64.pow(missing)).ok()
}

fn days_of(year: i64, month: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if leap { 29 } else { 28 }),
        _ => None,
    }
}

/// Days since 1970-01-01. The year is taken to begin in March, so that a leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    // 153 days in each five months, from March; 719,468 days from 0000-03-01 to 1970-01-01.
    year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_time_is_left_to_who_knows_all_forms() {
        for odd in [
            "2023-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:60Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00.1234567890Z",
            "2024-01-01T00:00:00+00:00",
            "2024-01-01 00:00:00Z",
            "1969-12-31T23:59:59Z",
            "",
        ] {
            assert_eq!(usual(odd.as_bytes()), None, "{odd}");
            assert_eq!(read(odd), odd.parse().ok(), "{odd}");
        }
        assert!(usual(b"2024-02-29T23:59:59.000000001Z").is_some());
    }

    proptest! {
        #[test]
        fn every_time_is_read_as_it_was_written(
            seconds in 0_i64..253_402_207_200, nanos in 0_i32..1_000_000_000, digits in 0_u32..10
        ) {
            let unit = 10_i32.pow(9 - digits);
            let time = Timestamp::new(seconds, nanos / unit * unit).unwrap();
            prop_assert_eq!(usual(time.to_string().as_bytes()), Some(time));
        }

        #[test]
        fn whatever_is_read_is_what_it_means(
            text in "[12][09][0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?Z?"
        ) {
            if let Some(time) = usual(text.as_bytes()) {
                prop_assert_eq!(text.parse::<Timestamp>().ok(), Some(time));
            }
        }
    }
}
