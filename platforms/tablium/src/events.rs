//! What the services tell each other, under the names that the platform has for it.

mod game;
mod user;
mod wallet;

pub use game::{
    ChatSaid, FlagDue, GameChanged, GameCompleted, GameCreated, GameJoined, GameMoveMade,
    GameStarted,
};
pub use user::{AchievementEarned, ProfileUpdated, UserRegistered};
pub use wallet::{
    BalanceUpdated, HoldDecided, HoldRequested, MatchSettled, ReleaseRequested,
    SettlementRequested, TransactionCreated, WalletCreated,
};
