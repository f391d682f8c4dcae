//! The command of a platform that prints a token.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use trunkline_core::{Env, Result};
use trunkline_security::{Claims, Signer};

use super::{print, token_secret};

/// Whose token is printed: a command that a platform may have among its own.
#[derive(Debug, Clone, Args)]
pub struct Token {
    /// The user's id
    #[arg(long)]
    user: String,
    /// A role, such as staff. Can be given several times
    #[arg(long)]
    role: Vec<String>,
    /// The folder of the platform that is to take the token
    #[arg(long, default_value = "data")]
    data: PathBuf,
    /// How many hours it is good for
    #[arg(long, default_value_t = 24)]
    hours: u32,
}

impl Token {
    /// Prints it, as this issuer's.
    ///
    /// # Errors
    /// Those of [`user_token`].
    pub fn print(&self, issuer: &str) -> Result<()> {
        let lifetime = Duration::from_secs(u64::from(self.hours) * 3_600);
        let roles: Vec<&str> = self.role.iter().map(String::as_str).collect();
        let token = user_token(&self.data, issuer, (&self.user, &roles), lifetime)?;
        print(&format!("{token}\n"))
    }
}

/// A token of a user in some roles, for the platform whose data is in this folder, running or not.
///
/// # Errors
/// Those of [`token_secret`].
pub fn user_token(
    data: &Path,
    issuer: &str,
    (user, roles): (&str, &[&str]),
    lifetime: Duration,
) -> Result<String> {
    let env = Env::system();
    let signer = Signer::hs256(&token_secret(data, &env)?);
    let claims = Claims::new(user, lifetime, &env).issued_by(issuer);
    let roles = roles.iter();
    signer.sign(&roles.fold(claims, |claims, role| claims.with_role(*role)))
}
