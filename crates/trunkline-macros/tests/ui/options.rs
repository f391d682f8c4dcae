//! Options that are missing, unknown or malformed.
use trunkline_macros::Event;

#[derive(Event)]
struct NoAttribute;

#[derive(Event)]
#[event(type = "a", topic = "t")]
struct NoVersion;

#[derive(Event)]
#[event(type = "a", version = "1.0")]
struct NoTopic;

#[derive(Event)]
#[event(typ = "a")]
struct UnknownOption;

#[derive(Event)]
#[event(type = "a/b", version = "1.0", topic = "t")]
struct TypeIsNoName;

#[derive(Event)]
#[event(type = "a", version = "1.0", topic = "")]
struct TopicIsEmpty;

#[derive(Event)]
#[event(type = "a", version = "1", topic = "t")]
struct VersionHasNoMinor;

#[derive(Event)]
#[event(type = "a", version = "1.01", topic = "t")]
struct VersionHasTwoForms;

#[derive(Event)]
#[event(type = "a", version = 1.0, topic = "t")]
struct VersionIsNoText;

#[derive(Event)]
#[event(type = "a", version = "1.0", topic = "t", kind = query)]
struct UnknownKind;

#[derive(Event)]
#[event(type = "a", version = "1.0", topic = "t", priority = urgent)]
struct UnknownPriority;

#[derive(Event)]
#[event(type = "a", version = "1.0", topic = "t")]
#[event(topic = "u")]
struct TopicTwice;

fn main() {}
