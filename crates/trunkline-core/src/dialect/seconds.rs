//! Times as a JSON number of Unix seconds, without a float in between.

use jiff::Timestamp;

/// Reads a JSON number in whatever form; what is finer than a nanosecond is cut off.
pub(super) fn read(number: &str) -> Option<Timestamp> {
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i32 = exponent
        .strip_prefix('+')
        .unwrap_or(exponent)
        .parse()
        .ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if whole.is_empty() || !digits().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // The value is 0.digits · 10^point; nine more places make nanoseconds.
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let places = usize::try_from(point.checked_add(9)?.max(0)).ok()?;
    let significant = digits().skip_while(|digit| *digit == b'0').count();
    if significant == 0 {
        return Some(Timestamp::UNIX_EPOCH);
    }
    let leading = digits().count() - significant;
    // The last year has 12 digits of seconds: beyond 22 significant places is no time.
    if places.saturating_sub(leading) > 22 {
        return None;
    }
    let padded = digits().chain(std::iter::repeat(b'0')).take(places);
    let nanos = padded.fold(0_i128, |nanos, digit| nanos * 10 + i128::from(digit - b'0'));
    Timestamp::from_nanosecond(if negative { -nanos } else { nanos }).ok()
}

/// Writes whole seconds as an integer, and others with as many places as it takes.
pub(super) fn write(time: Timestamp) -> String {
    let nanos = time.as_nanosecond();
    let sign = if nanos < 0 { "-" } else { "" };
    let (seconds, fraction) = (nanos.abs() / 1_000_000_000, nanos.abs() % 1_000_000_000);
    let text = format!("{sign}{seconds}.{fraction:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_form_are_the_same_time() {
        let time: Timestamp = "2009-02-13T23:31:30Z".parse().unwrap();
        for form in [
            "1234567890",
            "1234567890.000",
            "1.23456789e9",
            "123456789E+1",
            "12345678900e-1",
        ] {
            assert_eq!(read(form), Some(time), "{form}");
        }
        assert_eq!(write(time), "1234567890");
        assert_eq!(read("0"), Some(Timestamp::UNIX_EPOCH));
        assert_eq!(read("-0.0e99"), Some(Timestamp::UNIX_EPOCH));
        assert_eq!(read("1e-99"), Some(Timestamp::UNIX_EPOCH));
        assert_eq!(read("0.0000000019"), Timestamp::from_nanosecond(1).ok());
        assert_eq!(
            read("0.00000000000000000000000000000000001e35"),
            Timestamp::from_second(1).ok()
        );
    }

    #[test]
    fn fractions_and_times_before_1970_are_kept() {
        for text in [
            "-0.5",
            "1234567890.123456789",
            "-62135596800",
            "0.000000001",
        ] {
            assert_eq!(write(read(text).unwrap()), text);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let long = "9".repeat(400);
        for text in [
            "1700000000000",
            "1e99",
            "1e999999999999",
            "",
            "x",
            "NaN",
            "1.2.3",
            &long,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
