//! What can be asked for at once, and what names look like.

use std::time::Duration;

use trunkline::{Error, Result};

use crate::Points;

/// Characters of an id.
pub const ID_CHARS_MAX: usize = 64;
/// Characters of an address of mail.
pub const EMAIL_CHARS_MAX: usize = 254;
/// Rows that a list shows.
pub const PAGE_MAX: i64 = 100;
/// What a match may be played for at most.
pub const STAKE_MAX: Points = Points::whole(1_000_000);
/// Minutes of a clock.
pub const MINUTES: std::ops::RangeInclusive<u32> = 1..=180;
/// Seconds that a move may give back.
pub const INCREMENT_SECONDS_MAX: u32 = 60;
/// Characters of a chat message.
pub const CHAT_CHARS_MAX: usize = 500;
/// Chat messages of a game that are kept, and given to who joins.
pub const CHAT_KEPT: i64 = 50;
/// Chat messages that a player may send of a game within [`CHAT_WITHIN`].
pub const CHAT_MESSAGES_MAX: i64 = 10;
/// See [`CHAT_MESSAGES_MAX`].
pub const CHAT_WITHIN: Duration = Duration::from_secs(10);
/// Games that a player may have open or running at once.
pub const GAMES_OPEN_MAX: i64 = 50;

/// An id such as `game_1f`: letters, digits, `_`, `.` and `-`.
///
/// # Errors
/// `InvalidInput` with code `id_invalid`, naming the field.
pub(crate) fn id<'a>(field: &'static str, id: &'a str) -> Result<&'a str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if (1..=ID_CHARS_MAX).contains(&id.len()) && id.chars().all(fits) {
        return Ok(id);
    }
    let text = format!("{field} must have 1 to {ID_CHARS_MAX} letters, digits, _, . or -");
    Err(Error::invalid("id_invalid", text).with("field", field))
}

/// A name to be known by, in lower case.
///
/// # Errors
/// `InvalidInput` with code `username_invalid`.
pub(crate) fn username(name: &str) -> Result<String> {
    let name = name.trim().to_lowercase();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if (3..=30).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(name);
    }
    let text = "a username has 3 to 30 letters, digits, '.', '-' or '_'";
    Err(Error::invalid("username_invalid", text))
}

/// An address of mail, in lower case.
///
/// # Errors
/// `InvalidInput` with code `email_invalid`.
pub(crate) fn email(email: &str) -> Result<String> {
    let email = email.trim().to_lowercase();
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control();
    let is_whole = email.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty() && host.contains('.') && !host.contains('@') && !host.starts_with('.')
    });
    if is_whole && email.len() <= EMAIL_CHARS_MAX && email.chars().all(is_plain) {
        return Ok(email);
    }
    Err(Error::invalid(
        "email_invalid",
        "expected an address such as ada@example.com",
    ))
}

/// A text of somebody's own, without the characters that control terminals.
///
/// # Errors
/// `InvalidInput` with code `text_invalid`, naming the field.
pub(crate) fn text<'a>(field: &'static str, text: &'a str, chars_max: usize) -> Result<&'a str> {
    let trimmed = text.trim();
    let is_plain = |c: char| !c.is_control() || c == '\n';
    if (1..=chars_max).contains(&trimmed.chars().count()) && trimmed.chars().all(is_plain) {
        return Ok(trimmed);
    }
    let expected = format!("{field} must have 1 to {chars_max} characters, and none that control");
    Err(Error::invalid("text_invalid", expected).with("field", field))
}

/// There is none of this id, or not for who asks.
pub(crate) fn unknown(what: &'static str, id: &str) -> Error {
    let shown: String = id.chars().take(ID_CHARS_MAX).collect();
    let text = format!("there is no such {what}");
    Error::not_found(format!("{what}_unknown"), text).with("id", shown)
}
