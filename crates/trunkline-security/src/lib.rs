//! Tokens and keys: who a caller is.
