//! The process is killed again and again while it appends and projects: no commit that returned is lost, and each event
//! is applied once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use trunkline_core::Env;
use trunkline_store::{Engine, Projections, Store};
use trunkline_testkit::{Child, eventually};

use super::game::{Game, Moves, moved, play};
use super::projections::{assert_in_order, tallies};
use crate::common::{LIMIT, Place};

/// Tells the child where the store is and where it writes down what is committed.
const STORE: &str = "TRUNKLINE_SOURCING_STORE";
const TOLD: &str = "TRUNKLINE_SOURCING_TOLD";
const KILLS: usize = 5;
const GAMES: usize = 4;

/// The child: appends, says so, and projects beside it, until it is killed.
async fn be_killed(url: &str) {
    let store = Store::open(url, "test-service", Env::system())
        .await
        .unwrap();
    let projections = Projections::new(store.clone()).with(Moves);
    projections.prepare().await.unwrap();
    let told = PathBuf::from(std::env::var(TOLD).unwrap());
    let mut told = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(told)
        .unwrap();
    let appends = async {
        for n in 0.. {
            let game = play(
                &store,
                &format!("g{}", n % GAMES),
                &[moved(n), moved(n + 1)],
            )
            .await;
            let line = format!("{} {}\n", game.id(), game.version());
            // In one piece, whenever the kill comes.
            told.write_all(line.as_bytes()).unwrap();
        }
    };
    tokio::join!(appends, projections.run(std::future::pending()));
}

fn lines(told: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(told).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

async fn survives(engine: Engine, name: &str) {
    if let Ok(url) = std::env::var(STORE) {
        return be_killed(&url).await;
    }
    let place = Place::new(engine);
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    for _ in 0..KILLS {
        let before = lines(&told).len();
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = format!("sourcing::crash::{name}");
        command
            .args([&name, "--exact"])
            .env(STORE, &place.url)
            .env(TOLD, &told);
        let mut child = Child::spawn(command.stdout(Stdio::null())).unwrap();
        eventually(LIMIT, async || lines(&told).len() > before + 15).await;
        assert!(Child::was_killed(child.kill().unwrap()));
    }
    let store = place.open().await;
    let games = store.aggregates::<Game>();
    let mut events = 0;
    for n in 0..GAMES {
        let id = format!("g{n}");
        let game = games.load(&id).await.unwrap();
        let last = lines(&told)
            .into_iter()
            .rev()
            .find(|line| line.starts_with(&id))
            .unwrap();
        let promised: u64 = last.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(
            game.version() >= promised,
            "{} and {promised}",
            game.version()
        );
        assert_eq!(
            u64::try_from(game.state().fields.len()).unwrap(),
            game.version()
        );
        events += game.state().fields.len();
    }
    let projections = Projections::new(store.clone()).with(Moves);
    projections.prepare().await.unwrap();
    projections.catch_up().await.unwrap();
    let live = tallies(&store).await;
    assert_in_order(&live.1, events);
    projections.rebuild("moves").await.unwrap();
    projections.catch_up().await.unwrap();
    assert_eq!(tallies(&store).await, live);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_on_sqlite() {
    survives(Engine::Sqlite, "kills_on_sqlite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_on_postgres() {
    survives(Engine::Postgres, "kills_on_postgres").await;
}
