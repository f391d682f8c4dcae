CREATE TABLE profiles (
    user_id TEXT PRIMARY KEY,
    username TEXT NOT NULL,
    display_name TEXT NOT NULL,
    email TEXT NOT NULL,
    created_at TEXT NOT NULL
);
-- Names that are taken, and by which address: its registration may still be under way.
CREATE TABLE usernames (
    username TEXT PRIMARY KEY,
    email TEXT NOT NULL
);
-- A game that a user has finished, once.
CREATE TABLE results (
    user_id TEXT NOT NULL,
    game_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    -- won, lost or drawn
    result TEXT NOT NULL,
    PRIMARY KEY (user_id, game_id)
);
CREATE TABLE streaks (
    user_id TEXT PRIMARY KEY,
    wins_running BIGINT NOT NULL,
    wins_longest BIGINT NOT NULL
);
CREATE TABLE achievements (
    user_id TEXT NOT NULL,
    achievement TEXT NOT NULL,
    game_id TEXT NOT NULL,
    earned_at TEXT NOT NULL,
    PRIMARY KEY (user_id, achievement)
);
