//! What can be asked for at once.

use trunkline::{Error, Result};

/// Pieces in one line of an order.
pub const QUANTITY_MAX: u32 = 1_000;
/// Lines in one order, one report of a device, or one list of a machine's slots.
pub const LINES_MAX: usize = 100;
/// Entries that a list shows.
pub const PAGE_MAX: u32 = 500;
/// Characters of an id.
pub const ID_CHARS_MAX: usize = 64;

/// An id such as `shop_456`: letters, digits, `_` and `-`.
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

/// A name for people, on one line.
///
/// # Errors
/// `InvalidInput` with code `name_invalid`.
pub(crate) fn name(name: &str) -> Result<()> {
    const CHARS_MAX: usize = 200;
    let length = name.trim().chars().count();
    if (1..=CHARS_MAX).contains(&length) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let text = format!("a name must have 1 to {CHARS_MAX} characters, on one line");
    Err(Error::invalid("name_invalid", text))
}

/// # Errors
/// `InvalidInput` with code `lines_out_of_range`.
pub(crate) fn lines(lines: usize) -> Result<()> {
    if (1..=LINES_MAX).contains(&lines) {
        return Ok(());
    }
    let text = format!("expected 1 to {LINES_MAX} lines");
    Err(Error::invalid("lines_out_of_range", text).with("lines", lines))
}

/// # Errors
/// `InvalidInput` with code `quantity_out_of_range`.
pub(crate) fn quantity(quantity: u32) -> Result<()> {
    if (1..=QUANTITY_MAX).contains(&quantity) {
        return Ok(());
    }
    let text = format!("a quantity must lie between 1 and {QUANTITY_MAX}");
    Err(Error::invalid("quantity_out_of_range", text))
}

/// A day such as `2024-01-15`; another where none is given.
///
/// # Errors
/// `InvalidInput` with code `day_invalid`.
pub(crate) fn day(given: Option<&str>, otherwise: &str) -> Result<String> {
    let Some(day) = given else {
        return Ok(otherwise.to_owned());
    };
    match day.parse::<jiff::civil::Date>() {
        Ok(day) => Ok(day.to_string()),
        Err(error) => Err(
            Error::invalid("day_invalid", "a day is written like 2024-01-15").with_source(error),
        ),
    }
}

/// What was asked for is not there.
pub(crate) fn unknown(what: &'static str, id: &str) -> Error {
    let shown: String = id.chars().take(ID_CHARS_MAX).collect();
    Error::not_found(
        format!("{what}_unknown"),
        format!("there is no such {what}"),
    )
    .with("id", shown)
}
