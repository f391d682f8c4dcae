-- An account: user:<id>, held:<transaction>, or outside. Only outside may be below zero.
CREATE TABLE accounts (
    account TEXT NOT NULL,
    currency TEXT NOT NULL,
    balance_minor BIGINT NOT NULL,
    PRIMARY KEY (account, currency),
    CHECK (balance_minor >= 0 OR account = 'outside')
);
-- One movement of money, made once: <cause>:<what>, such as tx_1:hold.
CREATE TABLE movements (
    movement TEXT PRIMARY KEY,
    from_account TEXT NOT NULL,
    to_account TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor >= 0),
    at TEXT NOT NULL
);
