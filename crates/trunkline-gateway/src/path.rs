//! One spelling for each path, so that no other spelling slips past a route's plugins.

use std::fmt::Write;

use trunkline_core::{Error, Result};

/// The one spelling of a path, by which it is routed and sent on.
///
/// # Guarantees
/// Normalising what is normalised changes nothing. The result begins with `/`, has no empty segment but the
/// last, no `.` and no `..`, neither plain nor encoded, and nothing that an upstream could decode into one.
///
/// - Encoded unreserved characters (`%61`, `%2E`, `%7E`) are decoded; all other encodings stay, with upper-case
///   digits; a character outside of ASCII is encoded.
/// - `.` is dropped and `..` takes the segment before it, as RFC 3986 5.2.4 has it; slashes in a row are one.
/// - An encoded slash (`%2F`) stays encoded: it is part of a segment's text and never separates.
///
/// # Errors
/// `InvalidInput` (`path_invalid`) for a `..` that leaves the root, a broken or a NUL or control encoding, a raw
/// backslash, and for a segment that some servers take for a dot segment: `..;x`, `..%2Fx`, `..%5Cx`.
///
/// # Source
/// RFC 3986, 5.2.4 and 6.2.2. Kong and nginx merge slashes likewise; leaving the root is an error in nginx.
pub fn normalise(path: &str) -> Result<String> {
    if !path.starts_with('/') {
        return Err(invalid("expected a path that begins with /"));
    }
    if is_plain(path) {
        return Ok(path.to_owned());
    }
    let decoded = decode_unreserved(path)?;
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_folder = false;
    for segment in decoded.split('/').skip(1) {
        ends_in_folder = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                if kept.pop().is_none() {
                    return Err(invalid("expected a path that stays below the root"));
                }
            }
            segment if is_disguised(segment) => {
                return Err(invalid("expected no disguised dot segments in the path"));
            }
            segment => kept.push(segment),
        }
    }
    let mut normal = String::with_capacity(decoded.len());
    for segment in &kept {
        normal.push('/');
        normal.push_str(segment);
    }
    if ends_in_folder || kept.is_empty() {
        normal.push('/');
    }
    Ok(normal)
}

fn invalid(message: &'static str) -> Error {
    Error::invalid("path_invalid", message)
}

/// Whether there is nothing to do: the way of nearly all requests.
fn is_plain(path: &str) -> bool {
    let mut before = 0;
    path.bytes().all(|byte| {
        // Neither an empty segment nor one that may be dots.
        let is_odd = before == b'/' && matches!(byte, b'/' | b'.');
        before = byte;
        !is_odd && (is_unreserved(byte) || b"/:@!$&'()*+,=".contains(&byte))
    })
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn decode_unreserved(path: &str) -> Result<String> {
    let mut decoded = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                let byte = high << 4 | low;
                if byte.is_ascii_control() {
                    return Err(invalid("expected no encoded control character in the path"));
                }
                if is_unreserved(byte) {
                    decoded.push(char::from(byte));
                } else {
                    encode(byte, &mut decoded);
                }
            }
            b'\\' => return Err(invalid("expected no backslash in the path")),
            byte if byte.is_ascii_control() => {
                return Err(invalid("expected no control character in the path"));
            }
            byte if byte.is_ascii_graphic() => decoded.push(char::from(byte)),
            byte => encode(byte, &mut decoded),
        }
    }
    Ok(decoded)
}

fn digit(byte: Option<u8>) -> Result<u8> {
    match byte {
        Some(byte @ b'0'..=b'9') => Ok(byte - b'0'),
        Some(byte @ b'a'..=b'f') => Ok(byte - b'a' + 10),
        Some(byte @ b'A'..=b'F') => Ok(byte - b'A' + 10),
        _ => Err(invalid("expected two hexadecimal digits after %")),
    }
}

fn encode(byte: u8, into: &mut String) {
    // Writing to a String can't fail.
    write!(into, "%{byte:02X}").unwrap_or_default();
}

/// Whether a server that decodes slashes, backslashes or path parameters early would see a dot segment here.
fn is_disguised(segment: &str) -> bool {
    if !segment.contains('.') {
        return false;
    }
    let seen = segment
        .replace("%2F", "/")
        .replace("%5C", "/")
        .replace("%3B", ";");
    seen.split('/').any(|part| {
        let name = part.split(';').next().unwrap_or(part);
        matches!(name, "." | "..")
    })
}

#[cfg(test)]
mod tests;
