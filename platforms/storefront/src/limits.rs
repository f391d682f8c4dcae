//! What a customer can ask for at once.

use std::fmt;

use serde::Deserializer;
use serde::de::Visitor;
use trunkline::{Error, Result};

use crate::events::Address;

/// Pieces in one line of a cart or an order.
pub const QUANTITY_MAX: u32 = 1_000;
/// Lines in one cart or order.
pub const LINES_MAX: usize = 100;
/// Entries on one page of a list.
pub const PAGE_MAX: u32 = 100;

/// Reads a quantity. A whole number that is too small or too large is for [`quantity`] to refuse.
pub(crate) fn read_quantity<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    from.deserialize_u32(Whole)
}

struct Whole;

impl Visitor<'_> for Whole {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number between 1 and {QUANTITY_MAX}")
    }

    fn visit_u64<E>(self, number: u64) -> Result<u32, E> {
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    fn visit_i64<E>(self, _negative: i64) -> Result<u32, E> {
        Ok(0)
    }
}

/// What somebody wrote, short enough to be shown to them again.
pub(crate) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
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

/// # Errors
/// `InvalidInput` with code `lines_out_of_range`.
pub(crate) fn lines(lines: usize) -> Result<()> {
    if (1..=LINES_MAX).contains(&lines) {
        return Ok(());
    }
    let text = format!("there must be between 1 and {LINES_MAX} items");
    Err(Error::invalid("lines_out_of_range", text).with("items", lines))
}

/// The page size asked for, or the usual one.
///
/// # Errors
/// `InvalidInput` with code `limit_out_of_range`.
pub(crate) fn page(limit: Option<u32>) -> Result<u32> {
    let limit = limit.unwrap_or(20);
    if (1..=PAGE_MAX).contains(&limit) {
        return Ok(limit);
    }
    let text = format!("limit must lie between 1 and {PAGE_MAX}");
    Err(Error::invalid("limit_out_of_range", text).with("limit", limit))
}

/// A text of at most `chars_max` characters, not empty and without control characters.
///
/// # Errors
/// `InvalidInput` with code `text_invalid`, naming the field.
pub(crate) fn text<'a>(field: &'static str, value: &'a str, chars_max: usize) -> Result<&'a str> {
    let value = value.trim();
    let length = value.chars().count();
    if (1..=chars_max).contains(&length) && !value.chars().any(char::is_control) {
        return Ok(value);
    }
    let text = format!("{field} must have 1 to {chars_max} characters, on one line");
    Err(Error::invalid("text_invalid", text).with("field", field))
}

/// An address that a parcel can be sent to.
///
/// # Errors
/// `InvalidInput` with code `text_invalid` or `country_invalid`.
pub(crate) fn address(address: Address) -> Result<Address> {
    text("address_line1", &address.address_line1, 200)?;
    text("city", &address.city, 100)?;
    text("state", &address.state, 100)?;
    text("postal_code", &address.postal_code, 20)?;
    if let Some(line) = &address.address_line2 {
        text("address_line2", line, 200)?;
    }
    if address.country.len() != 2 || !address.country.bytes().all(|b| b.is_ascii_uppercase()) {
        let expected = "country must be two capital letters, such as US";
        return Err(Error::invalid("country_invalid", expected));
    }
    Ok(address)
}

/// An address that mail can be sent to.
///
/// # Errors
/// `InvalidInput` with code `email_invalid`.
pub(crate) fn email(email: &str) -> Result<&str> {
    let email = email.trim();
    match email.parse::<lettre::Address>() {
        Ok(_) if email.len() <= 254 => Ok(email),
        _ => Err(Error::invalid(
            "email_invalid",
            "email must be an address such as a@example.com",
        )),
    }
}
