//! Percent encoding, as URLs have it and CloudEvents' header values.

use std::borrow::Cow;
use std::fmt::Write;

/// A header's value: what is not printable ASCII, and space, `"` and `%`, is written as `%XX`.
///
/// # Source
/// CloudEvents' HTTP binding, 3.1.3.2, which the NATS binding refers to.
pub(crate) fn encode(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%');
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut written = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if plain(byte) {
            written.push(char::from(byte));
        } else {
            push_hex(&mut written, '%', byte);
        }
    }
    Cow::Owned(written)
}

/// Writes a byte as a mark and two digits.
pub(crate) fn push_hex(into: &mut String, mark: char, byte: u8) {
    // Writing to a string does not fail.
    write!(into, "{mark}{byte:02X}").unwrap_or_default();
}

/// The text that was encoded; what is no encoding stands for itself. None when it is not UTF-8.
pub(crate) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let coded = (*first == b'%').then(|| hex(behind.get(..2)?)).flatten();
        bytes.push(coded.unwrap_or(*first));
        rest = if coded.is_some() {
            behind.get(2..).unwrap_or_default()
        } else {
            behind
        };
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex(digits: &[u8]) -> Option<u8> {
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back() {
        for text in ["", "plain", "a b", "ü\n\"100 %\"", "%41", "\u{1f980}"] {
            let coded = encode(text);
            assert!(coded.bytes().all(|byte| byte.is_ascii_graphic()), "{coded}");
            assert_eq!(decode(&coded).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_encoding_stands_for_itself() {
        assert_eq!(decode("100%").unwrap(), "100%");
        assert_eq!(decode("%zz%4").unwrap(), "%zz%4");
        assert_eq!(decode("%+1").unwrap(), "%+1");
        assert_eq!(decode("%ff"), None);
    }
}
