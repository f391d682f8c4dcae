//! Whole games, as their players and spectators see them.

use serde_json::{Value, json};

use crate::sockets::Browser;
use crate::world::{User, World, quick};

/// Two players at a table, in front of their browsers.
pub(crate) struct Pair {
    pub(crate) world: World,
    pub(crate) users: [User; 2],
    pub(crate) browsers: [Browser; 2],
    pub(crate) game: String,
}

impl Pair {
    pub(crate) async fn at(world: World, open: Value) -> Self {
        let users = [world.user("ada").await, world.user("bob").await];
        let browsers = [
            world.browser(&users[0]).await,
            world.browser(&users[1]).await,
        ];
        let game = world.game(&users[0], &users[1], open).await;
        for browser in &browsers {
            browser.does("join-game", json!(game)).await;
        }
        Self {
            world,
            users,
            browsers,
            game,
        }
    }

    /// Both play these moves in turn, each with the version of the one before.
    pub(crate) async fn play(&self, moves: &[Value]) -> Value {
        let mut state = self.users[0].sees(&self.game).await;
        for (number, one) in moves.iter().enumerate() {
            let by = &self.browsers[number % 2];
            let what = json!({ "gameId": self.game, "move": one, "version": state["version"] });
            state = by.does("game-move", what).await;
        }
        state
    }

    /// Waits until both have been told of this version; what they were told.
    pub(crate) async fn both_hear(&self, version: &Value) -> Value {
        let mut told = Vec::new();
        for browser in &self.browsers {
            let of = |update: &Value| update["state"]["version"] == *version;
            told.push(browser.hears("game-updated", of).await["state"].clone());
        }
        assert_eq!(told[0], told[1]);
        told.pop().unwrap()
    }
}

pub(crate) fn columns(columns: &[u8]) -> Vec<Value> {
    columns
        .iter()
        .map(|column| json!({ "column": column }))
        .collect()
}

pub(crate) fn squares(moves: &[&str]) -> Vec<Value> {
    let squares = moves
        .iter()
        .map(|one| json!({ "from": one[..2], "to": one[2..] }));
    squares.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn four_in_a_row_wins_what_both_have_staked() {
    let mut open = quick("connect-four");
    open["stake"] = json!({ "amount": "25.5", "currency": "PTS" });
    let pair = Pair::at(World::start().await, open).await;
    let [ada, bob] = &pair.users;
    assert_eq!(
        (ada.has().await, bob.has().await),
        ("974.5".into(), "974.5".into())
    );
    let over = pair.play(&columns(&[3, 0, 3, 0, 3, 0, 3])).await;
    let won = json!({ "winner": "first", "reason": "four-in-a-row" });
    assert_eq!(
        (&over["outcome"], &over["status"]),
        (&won, &json!("completed"))
    );
    assert_eq!(pair.both_hear(&over["version"]).await, over);
    assert_eq!(over["turn"], Value::Null);
    ada.comes_to_have("1025.5").await;
    bob.comes_to_have("974.5").await;
    pair.world.holds_nothing().await;

    let first = pair.browsers[0].hears("achievement", |one| one["achievement"] == "first-win");
    assert_eq!(first.await["gameId"], json!(pair.game));
    let four = pair.browsers[0].hears("achievement", |one| one["achievement"] == "four-in-a-row");
    assert_eq!(four.await["userId"], json!(ada.id));
    let statistics = &ada.profile().await["statistics"];
    assert_eq!(
        (&statistics["won"], &statistics["winsInARow"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(bob.profile().await["statistics"]["lost"], 1);
    trunkline_testkit::eventually(crate::world::SOON, async || {
        let leaders = pair
            .world
            .gateway
            .get("/api/v1/leaderboard")
            .await
            .expect(200);
        leaders[0]["username"] == "ada" && leaders[0]["score"] == 3 && leaders[1]["lost"] == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mate_ends_a_game_of_chess() {
    let pair = Pair::at(World::start().await, quick("chess")).await;
    let over = pair.play(&squares(&["f2f3", "e7e5", "g2g4", "d8h4"])).await;
    let won = json!({ "winner": "second", "reason": "checkmate" });
    assert_eq!(over["outcome"], won);
    let notations: Vec<_> = over["moves"].as_array().unwrap().iter().collect();
    assert_eq!(notations[3], &json!({ "notation": "Qh4#", "by": "second" }));
    assert_eq!(pair.both_hear(&over["version"]).await, over);
    let update = pair.browsers[0]
        .hears("game-updated", |update| {
            !update["lastMove"].is_null() && update["state"]["version"] == over["version"]
        })
        .await;
    let by_bob = json!({ "playerId": pair.users[1].id, "moveData": { "from": "d8", "to": "h4" } });
    assert_eq!(update["lastMove"], by_bob);
    pair.browsers[1]
        .hears("achievement", |one| one["achievement"] == "quick-mate")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draw_is_offered_declined_and_agreed_and_stakes_go_back() {
    let mut open = quick("chess");
    open["stake"] = json!({ "amount": "10", "currency": "PTS" });
    let pair = Pair::at(World::start().await, open).await;
    let [ada, bob] = &pair.browsers;
    let game = json!({ "gameId": pair.game });
    let offered = ada.does("offer-draw", game.clone()).await;
    assert_eq!(offered["drawOffer"], "first");
    pair.both_hear(&offered["version"]).await;
    let answer = |accept: bool| json!({ "gameId": pair.game, "accept": accept });
    assert_eq!(
        ada.refused("answer-draw", answer(true)).await,
        "draw_not_offered"
    );
    let declined = bob.does("answer-draw", answer(false)).await;
    assert_eq!(
        (&declined["drawOffer"], &declined["status"]),
        (&Value::Null, &json!("active"))
    );
    // A move that was thought of before the offer is still a move.
    let moved = json!({ "gameId": pair.game, "move": { "from": "e2", "to": "e4" }, "version": offered["version"] });
    ada.does("game-move", moved).await;
    bob.does("offer-draw", json!(pair.game)).await;
    let agreed = ada.does("answer-draw", answer(true)).await;
    assert_eq!(
        agreed["outcome"],
        json!({ "winner": null, "reason": "agreement" })
    );
    pair.both_hear(&agreed["version"]).await;
    for user in &pair.users {
        user.comes_to_have("1000").await;
    }
    pair.world.holds_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_resigns_has_lost_and_may_have_another_game() {
    let pair = Pair::at(World::start().await, quick("chess")).await;
    let over = pair.browsers[0].does("resign", json!(pair.game)).await;
    assert_eq!(
        over["outcome"],
        json!({ "winner": "second", "reason": "resignation" })
    );
    pair.both_hear(&over["version"]).await;
    let [ada, bob] = &pair.users;
    let path = format!("/api/v1/games/{}/rematch", pair.game);
    let opened = bob.caller.post(&path, json!({})).await.expect(200);
    assert_eq!(opened["players"][0]["username"], "bob");
    let taken = ada.caller.post(&path, json!({})).await.expect(200);
    assert_eq!(taken["gameId"], opened["gameId"]);
    let again = opened["gameId"].as_str().unwrap();
    let active = pair.world.comes_to_be(ada, again, "active").await;
    assert_eq!(active["players"][1]["username"], "ada");
    let stranger = pair.world.user("eve").await;
    stranger
        .caller
        .post(&path, json!({}))
        .await
        .refused(404, "game_unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flag_falls_when_the_time_is_up() {
    let world = World::start().await;
    let [ada, bob] = [world.user("ada").await, world.user("bob").await];
    let browser = world.browser(&ada).await;
    // The shortest clock takes a minute, so the game is one of which half has gone by.
    let new = json!({
        "gameId": "game_short", "kind": "chess", "hostId": ada.id, "hostSeat": "first", "private": false,
        "clock": { "initialMs": 400, "incrementMs": 0 },
    });
    world
        .ask(("game-engine-service", &ada.id), "/internal/games", new)
        .await
        .unwrap();
    browser.does("join-game", json!("game_short")).await;
    bob.joins("game_short").await;
    let over = browser
        .hears("game-updated", |update| {
            update["state"]["status"] == "completed"
        })
        .await;
    assert_eq!(
        over["state"]["outcome"],
        json!({ "winner": "second", "reason": "time" })
    );
    assert_eq!(over["state"]["players"][0]["clockMs"], 0);
    let events = ada
        .caller
        .get("/api/v1/games/game_short/events")
        .await
        .expect(200);
    let types: Vec<_> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| &event["type"])
        .collect();
    assert_eq!(
        types,
        ["created", "joined", "started", "timed_out", "completed"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn spectators_see_and_chat_and_private_games_are_for_their_players() {
    let pair = Pair::at(World::start().await, quick("connect-four")).await;
    let eve = pair.world.user("eve").await;
    let watching = pair.world.browser(&eve).await;
    let table = watching.does("join-game", json!(pair.game)).await;
    assert_eq!(
        (&table["role"], &table["state"]["status"]),
        (&json!("spectator"), &json!("active"))
    );
    let [ada, bob] = &pair.browsers;
    let came = ada
        .hears("user-joined", |one| one["userId"] == json!(eve.id))
        .await;
    assert_eq!(
        (&came["username"], &came["role"]),
        (&json!("eve"), &json!("spectator"))
    );
    let mut both = [pair.users[0].id.clone(), pair.users[1].id.clone()];
    both.sort();
    let all = json!({ "gameId": pair.game, "players": both, "spectators": 1 });
    bob.hears("presence", |presence| *presence == all).await;

    let moved = json!({ "gameId": pair.game, "move": { "column": 3 } });
    assert_eq!(
        watching.refused("game-move", moved.clone()).await,
        "not_a_player"
    );
    ada.does("game-move", moved).await;
    watching
        .hears("game-updated", |update| {
            update["state"]["moves"][0]["notation"].is_string()
        })
        .await;
    watching
        .does(
            "chat",
            json!({ "gameId": pair.game, "text": " well played " }),
        )
        .await;
    let said = bob.hears("chat-message", |_| true).await;
    assert_eq!(
        (&said["username"], &said["text"]),
        (&json!("eve"), &json!("well played"))
    );

    watching.does("leave-game", json!(pair.game)).await;
    ada.hears("user-left", |one| one["userId"] == json!(eve.id))
        .await;
    assert_eq!(
        watching
            .refused("chat", json!({ "gameId": pair.game, "text": "?" }))
            .await,
        "not_joined"
    );
    bob.act("close", json!({})).await;
    ada.hears("user-left", |one| one["userId"] == json!(pair.users[1].id))
        .await;
    let back = watching.does("join-game", json!(pair.game)).await;
    assert_eq!(back["chat"][0]["text"], "well played");

    let mut open = quick("chess");
    open["private"] = json!(true);
    let secret = pair.world.game(&pair.users[0], &pair.users[1], open).await;
    assert_eq!(
        watching.refused("join-game", json!(secret)).await,
        "game_unknown"
    );
    let path = format!("/api/v1/games/{secret}");
    eve.caller.get(&path).await.refused(404, "game_unknown");
    eve.caller
        .get(&format!("{path}/events"))
        .await
        .refused(404, "game_unknown");
    assert_eq!(ada.does("join-game", json!(secret)).await["role"], "player");
    let listed = eve
        .caller
        .get("/api/v1/games?status=active")
        .await
        .expect(200);
    let ids: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|game| &game["gameId"])
        .collect();
    assert_eq!(ids, [&json!(pair.game)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_pay_is_turned_away_and_a_table_can_be_closed() {
    let world = World::start().await;
    let [ada, bob, eve] = [
        world.user("ada").await,
        world.user("bob").await,
        world.user("eve").await,
    ];
    let mut dear = quick("chess");
    dear["stake"] = json!({ "amount": "600", "currency": "PTS" });
    // Both have put 600 aside, so neither has another 600.
    let first = world.game(&ada, &bob, dear.clone()).await;
    let second = ada.opens(dear.clone()).await;
    eve.joins(&second).await;
    world.comes_to_be(&ada, &second, "cancelled").await;
    assert_eq!(eve.has().await, "1000", "who could pay has all again");
    let third = eve.opens(dear).await;
    bob.joins(&third).await;
    trunkline_testkit::eventually(crate::world::SOON, async || {
        let state = eve.sees(&third).await;
        state["status"] == "waiting" && state["players"].as_array().unwrap().len() == 1
    })
    .await;
    let listed = bob
        .caller
        .get("/api/v1/games?status=waiting")
        .await
        .expect(200);
    assert_eq!(listed[0]["gameId"], json!(third));
    let close = |game: &str| format!("/api/v1/games/{game}/cancel");
    bob.caller
        .post(&close(&third), json!({}))
        .await
        .refused(403, "not_the_host");
    let closed = eve.caller.post(&close(&third), json!({})).await.expect(200);
    assert_eq!(
        closed["outcome"],
        json!({ "winner": null, "reason": "cancelled" })
    );
    ada.caller
        .post(&close(&first), json!({}))
        .await
        .refused(409, "game_full");
    assert_eq!(
        (ada.has().await, eve.has().await),
        ("400".into(), "1000".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_is_what_was_seen_then_and_tables_built_anew_are_the_same() {
    let pair = Pair::at(World::start().await, quick("connect-four")).await;
    let over = pair.play(&columns(&[3, 0, 3, 0, 3, 0, 3])).await;
    pair.both_hear(&over["version"]).await;
    let path = format!("/api/v1/games/{}", pair.game);
    let caller = &pair.users[0].caller;
    let mut seen = 0;
    for update in pair.browsers[1].heard("game-updated") {
        let version = &update["state"]["version"];
        let then = caller
            .get(&format!("{path}?version={version}"))
            .await
            .expect(200);
        assert_eq!(then, update["state"]);
        seen += 1;
    }
    assert!(seen >= 7, "{seen} updates");
    caller
        .get(&format!("{path}?version=99"))
        .await
        .refused(404, "version_not_found");
    caller
        .get(&format!("{path}?version=0"))
        .await
        .refused(422, "version_invalid");

    let list = async || caller.get("/api/v1/games").await.expect(200);
    let leaders = async || {
        pair.world
            .gateway
            .get("/api/v1/leaderboard")
            .await
            .expect(200)
    };
    trunkline_testkit::eventually(crate::world::SOON, async || !leaders().await[0].is_null()).await;
    let live = (list().await, leaders().await);
    for projection in ["lobby", "leaderboard"] {
        pair.world.rebuild(projection).await;
    }
    assert_eq!((list().await, leaders().await), live);
}
