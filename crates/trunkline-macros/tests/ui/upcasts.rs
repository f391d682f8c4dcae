//! Upcasts that lead nowhere.
use trunkline_macros::Event;

#[derive(Event)]
#[event(type = "a", version = "1.1", topic = "t", upcast(from = "1.0", with = step))]
struct NoTarget;

#[derive(Event)]
#[event(type = "a", version = "1.1", topic = "t", upcast(from = "1.1", to = "1.0", with = step))]
struct Backwards;

#[derive(Event)]
#[event(type = "a", version = "2.0", topic = "t")]
#[event(upcast(from = "1.0", to = "1.1", with = step))]
#[event(upcast(from = "1.2", to = "2.0", with = step))]
struct Gap;

#[derive(Event)]
#[event(type = "a", version = "2.0", topic = "t", upcast(from = "1.0", to = "1.1", with = step))]
struct EndsEarly;

#[derive(Event)]
#[event(type = "a", version = "2.0", topic = "t", upcast(since = "1.0"))]
struct UnknownPart;

fn main() {}
