//! What is illegal, late, repeated, too much, or somebody else's.

use std::time::Duration;

use serde_json::{Value, json};
use trunkline::Program as _;

use crate::play::Pair;
use crate::world::{World, quick};

#[tokio::test(flavor = "multi_thread")]
async fn moves_are_legal_in_turn_of_the_newest_version_and_made_once() {
    let pair = Pair::at(World::start().await, quick("chess")).await;
    let [ada, bob] = &pair.browsers;
    let version = pair.users[0].sees(&pair.game).await["version"].clone();
    let moved = |from: &str, to: &str, version: &Value| json!({ "gameId": pair.game, "move": { "from": from, "to": to }, "version": version });
    assert_eq!(
        ada.refused("game-move", moved("e2", "e5", &version)).await,
        "illegal_move"
    );
    assert_eq!(
        bob.refused("game-move", moved("e7", "e5", &version)).await,
        "not_your_turn"
    );
    let of_four = json!({ "gameId": pair.game, "move": { "column": 3 } });
    assert_eq!(ada.refused("game-move", of_four).await, "wrong_kind");

    let first = ada.does("game-move", moved("e2", "e4", &version)).await;
    let again = ada.does("game-move", moved("e2", "e4", &version)).await;
    assert_eq!(again, first, "the same move is answered as it was");
    bob.does("game-move", moved("e7", "e5", &first["version"]))
        .await;
    assert_eq!(
        ada.does("game-move", moved("e2", "e4", &version)).await,
        first,
        "however late"
    );
    assert_eq!(
        ada.refused("game-move", moved("d2", "d4", &version)).await,
        "stale_move"
    );
    assert_eq!(
        bob.refused("game-move", moved("e2", "e4", &version)).await,
        "stale_move"
    );
    let future = ada
        .refused("game-move", moved("d2", "d4", &json!(99)))
        .await;
    assert_eq!(future, "version_not_found");
    assert_eq!(
        pair.users[0].sees(&pair.game).await["moves"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    let elsewhere = json!({ "gameId": "game_none", "move": { "column": 3 } });
    assert_eq!(ada.refused("game-move", elsewhere).await, "game_unknown");
    for bad in [
        json!("nonsense"),
        json!({ "gameId": pair.game }),
        json!({ "gameId": pair.game, "move": { "column": 300 } }),
        json!({ "gameId": pair.game, "move": { "column": 3 }, "more": 1 }),
        Value::Null,
    ] {
        assert_eq!(ada.refused("game-move", bad).await, "payload_invalid");
    }
    for id in ["", "../users", &"x".repeat(100)] {
        assert_eq!(ada.refused("join-game", json!(id)).await, "id_invalid");
    }
    bob.does("resign", json!(pair.game)).await;
    assert_eq!(ada.refused("resign", json!(pair.game)).await, "game_over");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_opened_and_joined_by_the_rules() {
    let world = World::start().await;
    let [ada, bob, eve] = [
        world.user("ada").await,
        world.user("bob").await,
        world.user("eve").await,
    ];
    let mut cases = Vec::new();
    for (field, value, code) in [
        ("kind", json!("go"), "body_mismatch"),
        ("clock", json!({ "minutes": 0 }), "clock_invalid"),
        (
            "clock",
            json!({ "minutes": 5, "incrementSeconds": 61 }),
            "clock_invalid",
        ),
        ("clock", json!({ "minutes": -1 }), "body_mismatch"),
        (
            "stake",
            json!({ "amount": "0", "currency": "PTS" }),
            "stake_invalid",
        ),
        (
            "stake",
            json!({ "amount": "-5", "currency": "PTS" }),
            "stake_invalid",
        ),
        (
            "stake",
            json!({ "amount": "99999999", "currency": "PTS" }),
            "stake_invalid",
        ),
        (
            "stake",
            json!({ "amount": 5, "currency": "PTS" }),
            "body_mismatch",
        ),
        (
            "stake",
            json!({ "amount": "5", "currency": "USD" }),
            "body_mismatch",
        ),
        ("opponent", json!(ada.id), "opponent_self"),
        ("opponent", json!("<script>"), "id_invalid"),
    ] {
        let mut open = quick("chess");
        open[field] = value;
        cases.push((open, code));
    }
    for (open, code) in cases {
        let shown = open.to_string();
        let answer = ada.caller.post("/api/v1/games", open).await;
        let (status, found) = (answer.status.as_u16(), answer.json()["code"].clone());
        assert_eq!((status, found), (422, json!(code)), "{shown}");
    }
    let game = ada.opens(quick("chess")).await;
    let join = |game: &str| format!("/api/v1/games/{game}/join");
    ada.caller
        .post(&join(&game), json!({}))
        .await
        .refused(409, "opponent_self");
    bob.joins(&game).await;
    bob.joins(&game).await;
    eve.caller
        .post(&join(&game), json!({}))
        .await
        .refused(409, "game_full");
    eve.caller
        .post(&join("game_none"), json!({}))
        .await
        .refused(404, "game_unknown");
    let mut challenge = quick("chess");
    challenge["opponent"] = json!(bob.id);
    let challenge = ada.opens(challenge).await;
    eve.caller
        .post(&join(&challenge), json!({}))
        .await
        .refused(403, "not_invited");
    assert_eq!(world.gateway.get("/api/v1/games").await.status, 401);
    assert_eq!(
        world
            .gateway
            .post("/api/v1/games", quick("chess"))
            .await
            .status,
        401
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_is_short_and_rare_and_of_who_is_there() {
    let pair = Pair::at(World::start().await, quick("chess")).await;
    let [ada, bob] = &pair.browsers;
    let say = |text: &str| json!({ "gameId": pair.game, "text": text });
    for text in ["", "   ", &"x".repeat(501), "\u{1b}[31mred"] {
        assert_eq!(ada.refused("chat", say(text)).await, "text_invalid");
    }
    let mut taken = 0;
    let refused = loop {
        let answer = ada.ask("chat", say("hello")).await;
        match answer["error"]["code"].as_str() {
            Some(code) => break code.to_owned(),
            None => taken += 1,
        }
    };
    assert_eq!((taken, &*refused), (10, "chat_rate"));
    bob.does("chat", say("<b>I am not limited by others</b>"))
        .await;
    ada.hears("chat-message", |said| {
        said["text"] == "<b>I am not limited by others</b>"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_floods_or_sends_what_is_no_packet_harms_nobody_else() {
    let pair = Pair::at(World::start().await, quick("connect-four")).await;
    let [ada, bob] = &pair.browsers;
    let flood = json!({ "event": "join-game", "data": pair.game, "times": 200 });
    bob.act("send", flood).await;
    bob.hears("error", |error| error["code"] == "rate_limited")
        .await;
    let large =
        json!({ "event": "chat", "data": { "gameId": pair.game, "text": "x".repeat(1_100_000) } });
    bob.act("send", large).await;
    bob.hears("down", |_| true).await;
    bob.is_up(2).await;
    bob.act("raw", json!({ "text": "2/games,[[[" })).await;
    ada.does(
        "game-move",
        json!({ "gameId": pair.game, "move": { "column": 3 } }),
    )
    .await;
    bob.is_up(3).await;
    let table = bob.does("join-game", json!(pair.game)).await;
    assert_eq!(table["state"]["moves"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_needed_and_ends() {
    let world = World::start().await;
    let ada = world.user("ada").await;
    let url = world.site.running().gateway_url();
    for (name, token) in [("none", ""), ("wrong", "a.b.c")] {
        let browser = world.browsers.open(name, &url, token).await;
        let refused = browser.hears("refused", |_| true).await;
        assert!(
            refused["code"].as_str().unwrap().starts_with("token_"),
            "{refused}"
        );
    }
    let old = tablium::token(world.site.data(), &ada.id, &[], Duration::from_secs(2)).unwrap();
    let browser = world.browsers.open("brief", &url, &old).await;
    browser.is_up(1).await;
    browser
        .hears("error", |error| error["code"] == "token_expired")
        .await;
    browser.hears("down", |_| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_who_does_not_read() {
    let pair = Pair::at(World::start().await, quick("chess")).await;
    let [ada, bob] = &pair.browsers;
    bob.act("stop", json!({})).await;
    // Far more than what a connection keeps for who does not read.
    let back_and_forth = ["g1f3", "g8f6", "f3g1", "f6g8"];
    let mut moves = back_and_forth.iter().cycle().take(8).enumerate();
    let eve = pair.world.browser(&pair.users[1]).await;
    let over = loop {
        let Some((number, one)) = moves.next() else {
            break pair.users[0].sees(&pair.game).await;
        };
        let by = if number % 2 == 0 { ada } else { &eve };
        let one = json!({ "gameId": pair.game, "move": { "from": one[..2], "to": one[2..] } });
        by.does("game-move", one).await;
    };
    let outcome = json!({ "winner": null, "reason": "repetition" });
    assert_eq!(over["outcome"], outcome);
    ada.hears("game-updated", |update| {
        update["state"]["outcome"] == outcome
    })
    .await;
}
