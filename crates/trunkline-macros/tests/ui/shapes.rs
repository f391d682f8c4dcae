//! Types that can't be an event's data.
use trunkline_macros::Event;

#[derive(Event)]
#[event(type = "a", version = "1.0", topic = "t")]
struct Generic<T>(T);

#[derive(Event)]
#[event(type = "a", version = "1.0", topic = "t")]
struct Borrowed<'a>(&'a str);

#[derive(Event)]
#[event(type = "a", version = "1.0", topic = "t")]
union Either {
    one: u8,
    two: u16,
}

fn main() {}
