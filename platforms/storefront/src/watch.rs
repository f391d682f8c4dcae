//! Telling people at a terminal what happens to orders.

use std::collections::VecDeque;

use serde_json::Value;
use trunkline::{ByteString, Envelope, Timestamp};

/// Flows whose beginning is remembered.
const FLOWS_MAX: usize = 1_000;
/// Events that are remembered: one that comes again is not told again.
const TOLD_MAX: usize = 1_000;

/// Turns events of orders into lines, one each.
#[derive(Debug, Default)]
pub struct Watch {
    /// When the first event of each flow happened, oldest first.
    begun: VecDeque<(ByteString, Timestamp)>,
    /// The ids of what was told, oldest first.
    told: VecDeque<ByteString>,
}

impl Watch {
    /// The line of an event; none if it is not one of an order, or was told before.
    pub fn line(&mut self, event: &Envelope) -> Option<String> {
        let data: Value = serde_json::from_slice(&event.data).ok()?;
        let order_id = order_of(&data)?;
        let story = story(&event.event_type, &data)?;
        if self.told.contains(&event.id) {
            return None;
        }
        if self.told.len() == TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back(event.id.clone());
        let begun = self.begun(event);
        let millis = event.time.duration_since(begun).as_millis();
        let time = event.time.strftime("%H:%M:%S");
        let order = short(order_id);
        Some(format!(
            "{time}  {millis:>6} ms  {order}  {:<30} {story}",
            event.event_type
        ))
    }

    fn begun(&mut self, event: &Envelope) -> Timestamp {
        let known = self
            .begun
            .iter()
            .rev()
            .find(|(flow, _)| *flow == event.correlation_id);
        if let Some((_, begun)) = known {
            return *begun;
        }
        if self.begun.len() == FLOWS_MAX {
            self.begun.pop_front();
        }
        self.begun
            .push_back((event.correlation_id.clone(), event.time));
        event.time
    }
}

/// The order that an event is about. A mail's subject is an order or a user.
fn order_of(data: &Value) -> Option<&str> {
    let mail = data.get("template").and_then(Value::as_str);
    let field = match mail {
        Some(template) if template.starts_with("order_") => "subject_id",
        Some(_) => return None,
        None => "order_id",
    };
    data.get(field)?.as_str()
}

fn story(event_type: &str, data: &Value) -> Option<String> {
    let text = |name: &str| {
        data.get(name)
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_owned()
    };
    let amount = |name: &str| {
        let amount = data.get(name).and_then(Value::as_f64).unwrap_or_default();
        format!("{amount:.2} {}", text("currency"))
    };
    Some(match event_type {
        "order.created" => format!("{} over {}", text("order_number"), amount("total")),
        "order.confirmed" => "the order is confirmed".to_owned(),
        "order.failed" => format!("the order failed: {}", text("reason")),
        "payment.success" => format!("{} paid {}", text("transaction_id"), amount("amount")),
        "payment.failed" => format!("not paid: {}", text("reason")),
        "payment.refunded" => format!("{} given back", amount("amount")),
        "payment.reconcile" => "the provider is asked again".to_owned(),
        "inventory.reserved" => format!("{} held", pieces(data)?),
        "inventory.released" => format!("{} free again", pieces(data)?),
        "inventory.reservation.expired" => "the reservation's time is up".to_owned(),
        "notification.sent" => format!("mail {}", text("template")),
        "notification.send" if data.get("attempt")?.as_u64()? > 1 => {
            format!("mail {} is tried again", text("template"))
        }
        _ => return None,
    })
}

fn pieces(data: &Value) -> Option<String> {
    let lines = data.get("reservations")?.as_array()?;
    let pieces: u64 = lines
        .iter()
        .filter_map(|line| line.get("quantity")?.as_u64())
        .sum();
    Some(if pieces == 1 {
        "1 piece".to_owned()
    } else {
        format!("{pieces} pieces")
    })
}

/// The end of an id: where ids made at about the same time differ.
fn short(id: &str) -> &str {
    id.get(id.len().saturating_sub(8)..).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use trunkline::{Context, Env};

    use super::*;
    use crate::events::{InventoryReleased, NotificationSent, OrderConfirmed, UserUpdated};

    fn watched(watch: &mut Watch, data: &impl trunkline::EventData) -> Option<String> {
        let env = Env::system();
        let context = Context {
            correlation_id: "flow".into(),
            ..Context::root(&env)
        };
        watch.line(&Envelope::of(data, "test", &context, &env).unwrap())
    }

    #[test]
    fn an_event_that_comes_again_is_told_once() {
        let env = Env::system();
        let order_id = "01890a5d-ac96-774b-bcce-b302099a8057".to_owned();
        let data = OrderConfirmed { order_id };
        let event = Envelope::of(&data, "test", &Context::root(&env), &env).unwrap();
        let mut watch = Watch::default();
        assert!(watch.line(&event).is_some());
        assert_eq!(watch.line(&event), None);
    }

    #[test]
    fn events_of_orders_have_a_line_each() {
        let mut watch = Watch::default();
        let order_id = "01890a5d-ac96-774b-bcce-b302099a8057".to_owned();
        let line = watched(
            &mut watch,
            &OrderConfirmed {
                order_id: order_id.clone(),
            },
        )
        .unwrap();
        assert!(line.ends_with("the order is confirmed"), "{line}");
        assert!(line.contains("  099a8057  order.confirmed  "), "{line}");
        let released = InventoryReleased {
            reservation_id: "r".into(),
            order_id: order_id.clone(),
            reservations: Vec::new(),
        };
        assert!(
            watched(&mut watch, &released)
                .unwrap()
                .ends_with("0 pieces free again")
        );
        let sent = NotificationSent {
            subject_id: order_id,
            template: "order_confirmed".into(),
            message_id: "m".into(),
        };
        assert!(
            watched(&mut watch, &sent)
                .unwrap()
                .ends_with("mail order_confirmed")
        );
    }

    #[test]
    fn other_events_have_none() {
        let updated = UserUpdated {
            user_id: "u".into(),
            full_name: "Ann".into(),
            email: "a@b.c".into(),
        };
        assert_eq!(watched(&mut Watch::default(), &updated), None);
    }
}
