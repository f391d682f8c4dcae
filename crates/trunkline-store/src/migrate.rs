//! Migrations: the tables of a service, step by step.

/// One step of a service's schema. Once applied anywhere it must never change: add another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its name, unique in the service, such as `0001_orders`.
    pub name: &'static str,
    /// One or more statements that both SQLite and PostgreSQL understand.
    pub sql: &'static str,
}
