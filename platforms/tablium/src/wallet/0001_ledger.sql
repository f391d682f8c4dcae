-- An account: user:<id>, held:<match>, or house. Only the house may be below zero: it gives what newcomers begin with.
CREATE TABLE accounts (
    account TEXT PRIMARY KEY,
    balance_minor BIGINT NOT NULL,
    CHECK (balance_minor >= 0 OR account = 'house')
);
-- One movement of points, made once: <cause>:<what>, such as game_1.2:hold:usr_1.
CREATE TABLE movements (
    movement TEXT PRIMARY KEY,
    from_account TEXT NOT NULL,
    to_account TEXT NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor > 0),
    at TEXT NOT NULL
);
-- How the stakes of a match stand: held, refused, released or settled.
CREATE TABLE stakes (
    match_id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    stake_minor BIGINT NOT NULL,
    -- JSON: the players' ids.
    players TEXT NOT NULL,
    -- Who had less than that.
    lacking TEXT
);
