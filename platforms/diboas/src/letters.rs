//! Messages that could not be handled.
//!
//! Operations are told of each by the platform's `[alerts]`, and of what is decided here about it.

use trunkline::{Cx, DeadLetter, Recovery, Result, Retry};

/// Audits a failed message, and has it handled again if that may help.
///
/// # Errors
/// Those of [`Cx::audit`].
pub async fn handle_failed_message(cx: Cx, message: DeadLetter) -> Result<Recovery> {
    let event = &message.envelope;
    let code = message.code.as_deref().unwrap_or("unknown");
    let what = format!("{} {}: {code}", event.event_type, event.id);
    cx.audit("message.failed", &what)?;
    Ok(if can_recover(&message) {
        Recovery::Retry
    } else {
        Recovery::Keep
    })
}

/// What failed for a passing reason is worth another attempt; so is what nobody knows the end of, because a message is handled
/// in one transaction and no message twice. What is wrong with the message itself stays wrong.
fn can_recover(message: &DeadLetter) -> bool {
    matches!(message.retry, Some(Retry::Transient | Retry::Unknown))
}
