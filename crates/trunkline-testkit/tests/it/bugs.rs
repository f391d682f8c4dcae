//! The bugs.

/// A mistake that somebody who writes a transport makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// None: the suite must let it pass.
    None,
    /// A delivery is acknowledged when it is handed out.
    AckBeforeTheHandler,
    /// A delivery that failed is acknowledged.
    AckAfterAFailure,
    /// An acknowledgement covers everything before it in the partition.
    CommitPastWorkInFlight,
    /// What one member works on is handed to another too.
    ConcurrentRedelivery,
    /// A delivery that failed is passed over until the subscription ends.
    SkippedOnError,
    /// A `next` that is dropped takes deliveries with it.
    NotCancelSafe,
    /// A batch is delivered backwards.
    Backwards,
    /// A key takes any partition.
    PartitionAtRandom,
    /// Every member of a group gets everything.
    GroupIsABroadcast,
    /// A group begins anew when its last member has left.
    GroupForgets,
    /// A new group misses what was there.
    NewGroupAtTheEnd,
    /// One event in seven is confirmed and not kept.
    LosesSome,
    /// A batch that fails in the middle says that nothing of it was published.
    AcceptedNothing,
    /// Any number of deliveries may be out.
    NoBoundInFlight,
    /// A retry comes at once.
    NoPause,
    /// A retry holds up all.
    RetryHoldsUpAll,
    /// No delivery says that it came before.
    NeverARedelivery,
    /// Who has left still settles: what it drops comes again to whoever has it by now.
    LateSettlement,
    /// Attributes of an event are lost.
    HeadersLost,
    /// A large body is cut.
    BodyCut,
    /// There is never any lag.
    NoLag,
    /// Closing ends nothing.
    CloseDoesNothing,
    /// A topic of another shape is taken for the same.
    ConflictIgnored,
    /// A topic that nobody declared is made.
    TopicMadeUp,
    /// More is delivered than was asked for.
    MoreThanAsked,
    /// An event without a key goes nowhere.
    KeylessDropped,
    /// Every event is published twice.
    PublishedTwice,
    /// An offset to start at is not heeded.
    OffsetIgnored,
    /// A time to start at is not heeded.
    TimeIgnored,
    /// Who leaves keeps what it had out.
    LeaverKeepsAll,
}

pub(crate) const ALL: [Bug; 30] = [
    Bug::AckBeforeTheHandler,
    Bug::AckAfterAFailure,
    Bug::CommitPastWorkInFlight,
    Bug::ConcurrentRedelivery,
    Bug::SkippedOnError,
    Bug::NotCancelSafe,
    Bug::Backwards,
    Bug::PartitionAtRandom,
    Bug::GroupIsABroadcast,
    Bug::GroupForgets,
    Bug::NewGroupAtTheEnd,
    Bug::LosesSome,
    Bug::AcceptedNothing,
    Bug::NoBoundInFlight,
    Bug::NoPause,
    Bug::RetryHoldsUpAll,
    Bug::NeverARedelivery,
    Bug::LateSettlement,
    Bug::HeadersLost,
    Bug::BodyCut,
    Bug::NoLag,
    Bug::CloseDoesNothing,
    Bug::ConflictIgnored,
    Bug::TopicMadeUp,
    Bug::MoreThanAsked,
    Bug::KeylessDropped,
    Bug::PublishedTwice,
    Bug::OffsetIgnored,
    Bug::TimeIgnored,
    Bug::LeaverKeepsAll,
];
