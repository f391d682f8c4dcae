//! Texts of a message, as a reader finds them.

use bytestring::ByteString;

/// A text that is looked at, and kept only if the event keeps it.
pub(crate) trait Text: AsRef<str> {
    /// The text as the event's own.
    fn keep(self) -> ByteString;
}

impl Text for ByteString {
    fn keep(self) -> ByteString {
        self
    }
}

/// A text that stands in a buffer; kept, it shares the buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shared<'a> {
    pub(crate) whole: &'a ByteString,
    pub(crate) text: &'a str,
}

impl AsRef<str> for Shared<'_> {
    fn as_ref(&self) -> &str {
        self.text
    }
}

impl Text for Shared<'_> {
    fn keep(self) -> ByteString {
        let (whole, text) = (
            self.whole.as_bytes().as_ptr_range(),
            self.text.as_bytes().as_ptr_range(),
        );
        if whole.start <= text.start && text.end <= whole.end {
            self.whole.slice_ref(self.text)
        } else {
            self.text.into()
        }
    }
}
