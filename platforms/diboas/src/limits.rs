//! What can be asked for at once.

use trunkline::{Error, Result};

/// Characters of an id.
pub const ID_CHARS_MAX: usize = 64;
/// Transactions that a list shows.
pub const PAGE_MAX: u32 = 200;

/// An id such as `user456`: letters, digits, `_` and `-`.
///
/// # Errors
/// `InvalidInput` with code `id_invalid`, naming the field.
pub(crate) fn id(field: &'static str, id: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if (1..=ID_CHARS_MAX).contains(&id.len()) && id.chars().all(fits) {
        return Ok(());
    }
    let text = format!("{field} must have 1 to {ID_CHARS_MAX} letters, digits, _ or -");
    Err(Error::invalid("id_invalid", text).with("field", field))
}

/// There is none of this id, or not for who asks.
pub(crate) fn unknown(what: &'static str, id: &str) -> Error {
    let text = format!("there is no such {what}");
    Error::not_found(format!("{what}_unknown"), text).with("id", id)
}
