//! What becomes of users.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::Event;

/// Somebody opened an account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "user.registered", version = "1.0", topic = "users", key = user_id)]
#[serde(rename_all = "camelCase")]
pub struct UserRegistered {
    /// The user.
    pub user_id: String,
    /// Where mail goes.
    pub email: String,
    /// The name that others see.
    pub username: String,
}

/// A user says something else of themself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "user.profile.updated", version = "1.0", topic = "users", key = user_id)]
#[serde(rename_all = "camelCase")]
pub struct ProfileUpdated {
    /// The user.
    pub user_id: String,
    /// The name to address them by.
    pub display_name: String,
}

/// A user has done something for the first time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "user.achievements.earned", version = "1.0", topic = "users", key = user_id)]
#[serde(rename_all = "camelCase")]
pub struct AchievementEarned {
    /// The user.
    pub user_id: String,
    /// What it is called, such as `first-win`.
    pub achievement: String,
    /// What a reader is told of it.
    pub title: String,
    /// The game in which it was earned.
    pub game_id: String,
}
