//! What the mails say.

use crate::Money;

/// An order, as far as a mail speaks of it.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) number: String,
    pub(super) total: Money,
    pub(super) currency: String,
}

/// A mail without its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    /// Which mail it is.
    pub(super) template: &'static str,
    pub(super) subject: String,
    pub(super) body: String,
}

pub(super) fn welcome(name: &str) -> Text {
    Text {
        template: "welcome",
        subject: "Welcome to the store".to_owned(),
        body: format!("Hello {name},\n\nyour account is open. Enjoy looking around.\n"),
    }
}

pub(super) fn confirmed(name: &str, order: &Order) -> Text {
    let Order {
        number,
        total,
        currency,
    } = order;
    Text {
        template: "order_confirmed",
        subject: format!("Your order {number} is confirmed"),
        body: format!(
            "Hello {name},\n\nthank you. Your order {number} over {total} {currency} is paid, and \
             we are packing it.\n"
        ),
    }
}

pub(super) fn failed(name: &str, order: &Order, reason: &str) -> Text {
    let Order {
        number,
        total,
        currency,
    } = order;
    let why = match reason {
        "card_declined" => "your card was declined",
        "insufficient_funds" => "your card has not enough funds",
        "amount_limit" => "the amount is above your card's limit",
        "provider_timeout" => "the payment provider did not answer in time",
        "reservation_expired" => "it was not paid in time",
        _ => "it could not be paid",
    };
    Text {
        template: "order_failed",
        subject: format!("Your order {number} could not be completed"),
        body: format!(
            "Hello {name},\n\nwe are sorry: your order {number} over {total} {currency} could not \
             be completed, because {why}. Nothing is charged.\n"
        ),
    }
}
