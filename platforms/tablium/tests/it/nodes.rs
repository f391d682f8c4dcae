//! The site on real servers, by the configurations that are checked in: each service in a process of its own; and two nodes, of which
//! one is killed amid a hundred games: its players come to the other, and every game goes on with every move that was made, and none
//! made twice.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;
use trunkline_testkit::http::Caller;
use trunkline_testkit::postgres::Postgres;
use trunkline_testkit::{Child, Processes, eventually, free_port};

use crate::sockets::{Browser, Browsers};
use crate::world::{User, quick, register};

const NODES: &str = include_str!("../../deploy/nodes.toml");
const SERVICES: &str = include_str!("../../deploy/services.toml");
/// All of it begins, on a machine that does other things too.
const UP: Duration = Duration::from_secs(180);
const PAIRS: usize = 20;
const GAMES_OF_A_PAIR: usize = 5;
/// Moves of all games when the node is killed.
const MOVES_BEFORE: usize = 300;

/// A node of the site.
struct Node {
    child: Child,
    gateway: Caller,
    url: String,
}

/// What the nodes share.
struct Servers {
    folder: TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Servers {
    fn new() -> Self {
        let redis = trunkline_testkit::redis::Server::shared().url();
        let rabbit = trunkline_testkit::rabbitmq::Server::shared().url();
        let prefix = format!("tablium{}.", free_port().unwrap());
        let store = format!("{}_{{service}}", Postgres::shared().schema_url("tablium"));
        let folder = tempfile::tempdir().unwrap();
        let light = redis.replacen("redis://", "redis+pubsub://", 1);
        let variables = vec![
            (
                "TRUNKLINE__BUS",
                format!("{rabbit}?form=tablium&prefix={prefix}"),
            ),
            ("TRUNKLINE__STORE", store),
            (
                "TRUNKLINE__TOPICS__CHAT",
                format!("{light}?form=tablium&prefix={prefix}"),
            ),
            ("TRUNKLINE__REALTIME__BACKBONE", redis),
        ];
        Self { folder, variables }
    }

    async fn start(&self, name: &str, config: &str, more: &[&str]) -> Node {
        let [gateway, admin] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port().unwrap()));
        let data = self.folder.path().join(name);
        self.share_secret(&data);
        let processes = Processes::new(self.folder.path().join(format!("{name}.log")));
        let mut command = Command::new(env!("CARGO_BIN_EXE_tablium"));
        let file = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&file, config).unwrap();
        command.args(["up", "--quiet", "--gateway", &gateway, "--admin", &admin]);
        command.args(more).arg("--data").arg(&data);
        command.arg("--config").arg(file);
        command.envs(self.variables.clone());
        let child = processes.spawn(&mut command);
        let url = format!("http://{gateway}");
        let admin = Caller::new(format!("http://{admin}"));
        processes.until_ok(&admin, "/health").await;
        Node {
            child,
            gateway: Caller::new(&url),
            url,
        }
    }

    /// Whoever signed in at one node is known at the other.
    fn share_secret(&self, data: &Path) {
        std::fs::create_dir_all(data).unwrap();
        let first = self.folder.path().join("one/token.secret");
        if first.exists() {
            std::fs::copy(first, data.join("token.secret")).unwrap();
        }
    }
}

/// A game that is played to its end by moves at random, each made once whatever happens on the way.
struct Played {
    game: String,
    players: [Browser; 2],
    /// What was made, as far as the players were told, and when.
    made: Vec<(Value, Instant)>,
    moves: Arc<AtomicUsize>,
}

impl Played {
    async fn play(mut self) -> Self {
        self.come(1).await;
        let mut state = self.come(0).await;
        while state["status"] == "active" {
            let by = usize::from(state["turn"] == "second");
            let legal = state["legalMoves"].as_array().unwrap();
            let one = legal[rand::rng().random_range(0..legal.len())].clone();
            let asked = json!({ "gameId": self.game, "move": one, "version": state["version"] });
            state = self.make(by, asked).await;
            self.made.push((one, Instant::now()));
            self.moves.fetch_add(1, Ordering::Relaxed);
            // A player thinks.
            let thought = Duration::from_millis(rand::rng().random_range(200..600));
            tokio::time::sleep(thought).await;
        }
        self
    }

    /// How long after a moment the next move was made, if there was one.
    fn first_after(&self, moment: Instant) -> Option<Duration> {
        let after = self.made.iter().map(|(_, at)| *at);
        let first = after.filter(|at| *at > moment).min();
        first.map(|at| at - moment)
    }

    /// Makes a move, again and again until it is known to be made.
    async fn make(&self, by: usize, asked: Value) -> Value {
        loop {
            let answer = self.players[by].ask("game-move", asked.clone()).await;
            if answer["gameId"] == json!(self.game) {
                return answer;
            }
            self.may_try_again(&answer);
            self.come(by).await;
        }
    }

    /// Comes to the table, or comes back to it.
    async fn come(&self, by: usize) -> Value {
        loop {
            let table = self.players[by].ask("join-game", json!(self.game)).await;
            if table["state"].is_object() {
                return table["state"].clone();
            }
            self.may_try_again(&table);
        }
    }

    /// What a node that dies, or is asked much, may say; nothing of it is about the move.
    fn may_try_again(&self, answer: &Value) {
        let refused = answer["error"]["code"].as_str();
        let is_passing = answer["failed"].is_object()
            || refused.is_some_and(|code| {
                !["illegal_move", "not_your_turn", "stale_move", "game_over"].contains(&code)
            });
        assert!(is_passing, "{}: {answer}", self.game);
    }
}

async fn pair(node: &Node, browsers: &Browsers, number: usize) -> [(User, Browser); 2] {
    let one = async |name: String| {
        let user = register(&node.gateway, &name).await;
        user.is_known().await;
        let browser = browsers.open(&name, &node.url, &user.token).await;
        browser.is_up(1).await;
        (user, browser)
    };
    [
        one(format!("first{number}")).await,
        one(format!("second{number}")).await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_games_go_on_at_the_other_node_when_theirs_is_killed() {
    let servers = Servers::new();
    let mut one = servers.start("one", NODES, &[]).await;
    let other = servers.start("other", NODES, &[]).await;
    let browsers = Browsers::start();
    let moves = Arc::new(AtomicUsize::new(0));
    let mut tables = Vec::new();
    let mut people = Vec::new();
    for number in 0..PAIRS {
        let both = pair(&one, &browsers, number).await;
        for _ in 0..GAMES_OF_A_PAIR {
            let game = both[0].0.opens(quick("connect-four")).await;
            both[1].0.joins(&game).await;
            let active = async || both[0].0.sees(&game).await["status"] == "active";
            eventually(UP, active).await;
            let played = Played {
                game,
                players: [both[0].1.clone(), both[1].1.clone()],
                made: Vec::new(),
                moves: moves.clone(),
            };
            tables.push(played);
        }
        people.extend(both);
    }
    let mut playing: JoinSet<Played> = tables.into_iter().map(Played::play).collect();
    eventually(UP, async || moves.load(Ordering::Relaxed) >= MOVES_BEFORE).await;
    let status = one.child.kill().unwrap();
    let killed = Instant::now();
    assert!(Child::was_killed(status), "{status}");
    for (user, browser) in &people {
        let to = json!({ "url": other.url, "token": user.token });
        browser.act("move", to).await;
    }
    let mut went_on = Vec::new();
    while let Some(played) = playing.join_next().await {
        let played = played.unwrap();
        proves(&other, &people, &played).await;
        went_on.extend(played.first_after(killed));
    }
    let count = went_on.len();
    assert!(
        count > PAIRS * GAMES_OF_A_PAIR * 9 / 10,
        "{count} games went on"
    );
    went_on.sort();
    let (half, last) = (went_on[went_on.len() / 2], went_on[went_on.len() - 1]);
    eprintln!("{count} games went on: half within {half:?}, all within {last:?}");
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_match_is_played_where_each_service_has_a_process_of_its_own() {
    let servers = Servers::new();
    let site = servers.start("one", SERVICES, &["--processes"]).await;
    let browsers = Browsers::start();
    let both = pair(&site, &browsers, 0).await;
    let [(ada, first), (bob, second)] = &both;
    let mut open = quick("connect-four");
    open["stake"] = json!({ "amount": "25", "currency": "PTS" });
    let game = ada.opens(open).await;
    bob.joins(&game).await;
    eventually(UP, async || ada.sees(&game).await["status"] == "active").await;
    for browser in [first, second] {
        browser.does("join-game", json!(game)).await;
    }
    first
        .does("chat", json!({ "gameId": game, "text": "good luck" }))
        .await;
    second
        .hears("chat-message", |said| said["text"] == "good luck")
        .await;
    let mut state = ada.sees(&game).await;
    for (number, column) in [3, 0, 3, 0, 3, 0, 3].into_iter().enumerate() {
        let asked = json!({
            "gameId": game, "move": { "column": column }, "version": state["version"],
        });
        state = [first, second][number % 2].does("game-move", asked).await;
    }
    assert_eq!(
        state["outcome"],
        json!({ "winner": "first", "reason": "four-in-a-row" })
    );
    for browser in [first, second] {
        let is_over = |update: &Value| update["state"]["version"] == state["version"];
        browser.hears("game-updated", is_over).await;
    }
    ada.comes_to_have("1025").await;
    bob.comes_to_have("975").await;
    drop(site);
}

/// The game has every move that its players know to be made, in their order, and no other; and both were told of its end.
async fn proves(node: &Node, people: &[(User, Browser)], played: &Played) {
    let (user, _) = people
        .iter()
        .find(|(user, _)| user.name == played.players[0].name)
        .unwrap();
    let caller = node.gateway.bearing(&user.token);
    let path = format!("/api/v1/games/{}/events", played.game);
    let events = caller.get(&path).await.expect(200);
    let moved = events.as_array().unwrap().iter();
    let moved = moved.filter(|event| event["type"] == "moved");
    let stored: Vec<Value> = moved.map(|event| event["data"]["played"].clone()).collect();
    let made: Vec<Value> = played.made.iter().map(|(one, _)| one.clone()).collect();
    assert_eq!(stored, made, "{}", played.game);
    let is_over = |update: &Value| {
        update["gameId"] == json!(played.game) && update["state"]["status"] == "completed"
    };
    for player in &played.players {
        player.hears("game-updated", is_over).await;
    }
}
