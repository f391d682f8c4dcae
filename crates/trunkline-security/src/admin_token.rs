//! The token of an admin API.

use std::fmt;

use trunkline_core::{Error, ErrorKind, Result};

/// The token that an admin API asks for; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// A token of at least 16 bytes, so that it can't be guessed over the network.
    ///
    /// # Errors
    /// `InvalidInput` for a shorter one.
    pub fn new(token: impl Into<String>) -> Result<Self> {
        let token = token.into();
        if token.len() < 16 {
            return Err(Error::invalid(
                "admin_token_short",
                "expected an admin token of at least 16 bytes",
            ));
        }
        Ok(Self(token))
    }

    /// As a request carries it.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Looks at the `Authorization` header of a request.
    ///
    /// # Errors
    /// `Unauthenticated`: `admin_token_missing` or `admin_token_wrong`.
    pub fn check(&self, authorization: Option<&str>) -> Result<()> {
        let (code, text) = match authorization.and_then(|value| value.strip_prefix("Bearer ")) {
            Some(given) if self.matches(given) => return Ok(()),
            Some(_) => ("admin_token_wrong", "the admin token is wrong"),
            None => (
                "admin_token_missing",
                "expected `Authorization: Bearer <admin token>`",
            ),
        };
        Err(Error::new(ErrorKind::Unauthenticated, code, text))
    }

    /// Compares in a time that does not depend on where they differ.
    fn matches(&self, given: &str) -> bool {
        let pairs = self.0.bytes().zip(given.bytes());
        let differing = pairs.fold(0, |seen, (a, b)| seen | (a ^ b));
        self.0.len() == given.len() && differing == 0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_taken_and_nobody_reads_it() {
        assert_eq!(
            AdminToken::new("short").unwrap_err().code(),
            "admin_token_short"
        );
        let token = AdminToken::new("0123456789abcdef").unwrap();
        token.check(Some(&token.bearer())).unwrap();
        for (shown, code) in [
            (Some("Bearer 0123456789abcdeF"), "admin_token_wrong"),
            (Some("Bearer 0123456789abcdef0"), "admin_token_wrong"),
            (Some("Bearer "), "admin_token_wrong"),
            (Some("0123456789abcdef"), "admin_token_missing"),
            (Some("Basic x"), "admin_token_missing"),
            (None, "admin_token_missing"),
        ] {
            assert_eq!(token.check(shown).unwrap_err().code(), code, "{shown:?}");
        }
        assert!(!format!("{token:?}").contains("0123"));
    }
}
