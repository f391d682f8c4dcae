//! Keys that name nothing.
use trunkline_macros::Event;

#[derive(Event)]
#[event(type = "a", version = "1.0", topic = "t", key = order)]
struct NoSuchField {
    order_id: String,
    user_id: String,
}

#[derive(Event)]
#[event(type = "a", version = "1.0", topic = "t", key = order.id)]
struct NoSuchFirstField {
    id: String,
}

#[derive(Event)]
#[event(type = "a", version = "1.0", topic = "t", key = id)]
struct FieldsWithoutNames(String);

#[derive(Event)]
#[event(type = "a", version = "1.0", topic = "t", key = id)]
enum NoFields {
    One { id: String },
}

fn main() {}
