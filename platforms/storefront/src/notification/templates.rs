//! What the mails say.

use trunkline::{Error, Result};

use crate::Money;

/// Which mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Template {
    /// An account was opened.
    Welcome,
    /// An order is paid.
    OrderConfirmed,
    /// An order came to nothing.
    OrderFailed,
}

impl Template {
    const ALL: [Self; 3] = [Self::Welcome, Self::OrderConfirmed, Self::OrderFailed];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::OrderConfirmed => "order_confirmed",
            Self::OrderFailed => "order_failed",
        }
    }

    /// # Errors
    /// `InvalidInput` with code `template_unknown`.
    pub(super) fn named(name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|known| known.name() == name);
        known.ok_or_else(|| {
            Error::invalid("template_unknown", "there is no such mail").with("template", name)
        })
    }
}

/// An order, as far as a mail speaks of it.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) number: String,
    pub(super) total: Money,
    pub(super) currency: String,
    pub(super) pieces: u32,
    /// Lines of an address; none if it is picked up.
    pub(super) ship_to: String,
}

/// A mail without its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) subject: String,
    pub(super) body: String,
}

const REGARDS: &str = "Your storefront\n";

pub(super) fn welcome(name: &str) -> Text {
    Text {
        subject: "Welcome to the store".to_owned(),
        body: format!("Hello {name},\n\nyour account is open. Enjoy looking around.\n\n{REGARDS}"),
    }
}

pub(super) fn confirmed(name: &str, order: &Order) -> Text {
    let Order {
        number,
        total,
        currency,
        pieces,
        ship_to,
    } = order;
    let pieces = match pieces {
        1 => "1 piece".to_owned(),
        pieces => format!("{pieces} pieces"),
    };
    let ship_to: String = ship_to.lines().map(|line| format!("  {line}\n")).collect();
    let whereto = if ship_to.is_empty() {
        "You can pick it up at the store.\n".to_owned()
    } else {
        format!("It goes to:\n\n{ship_to}")
    };
    Text {
        subject: format!("Your order {number} is confirmed"),
        body: format!(
            "Hello {name},\n\n\
             thank you for your order {number}. It is paid, and we are packing it.\n\n  \
             {pieces}, together {total} {currency}\n\n\
             {whereto}\n{REGARDS}"
        ),
    }
}

pub(super) fn failed(name: &str, order: &Order, reason: &str) -> Text {
    let Order {
        number,
        total,
        currency,
        ..
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
        subject: format!("Your order {number} could not be completed"),
        body: format!(
            "Hello {name},\n\n\
             we are sorry: your order {number} over {total} {currency} could not be completed,\n\
             because {why}. You pay nothing for it, and what may have been charged\n\
             already is given back.\n\n{REGARDS}"
        ),
    }
}
