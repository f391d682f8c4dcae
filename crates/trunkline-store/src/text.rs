//! Texts from outside in columns: PostgreSQL's TEXT holds any Unicode but NUL, and an event's id or key
//! may hold that too.
//!
//! # Shape
//! NUL is written as U+E000 U+E002, and U+E000 as U+E000 U+E001; everything else as it is.

use std::borrow::Cow;

use bytestring::ByteString;

const MARK: char = '\u{E000}';

/// A text as it is stored.
pub(crate) fn write(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', MARK]) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.replace(MARK, "\u{E000}\u{E001}")
            .replace('\0', "\u{E000}\u{E002}"),
    )
}

/// A text as it was before it was stored.
pub(crate) fn read(stored: String) -> ByteString {
    if !stored.contains(MARK) {
        return stored.into();
    }
    stored
        .replace("\u{E000}\u{E002}", "\0")
        .replace("\u{E000}\u{E001}", "\u{E000}")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_comes_back_and_none_holds_nul() {
        for text in [
            "",
            "a",
            "\0",
            "a\0b\0",
            "\u{E000}",
            "\u{E000}\0\u{E001}",
            "\u{E000}\u{E002}",
        ] {
            let stored = write(text);
            assert!(!stored.contains('\0'));
            assert_eq!(read(stored.into_owned()), text);
        }
    }
}
