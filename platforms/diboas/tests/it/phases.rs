//! Phases 1, 2 and 3 are three configurations of one program: the same story gives the same transcript.

use std::process::Command;

use trunkline_testkit::postgres::Postgres;
use trunkline_testkit::redis::Server;
use trunkline_testkit::{Child, free_port};

use crate::finance::TestFinance;
use crate::process::World;
use crate::story;

/// What everybody sees, whatever runs where.
const TRANSCRIPT: &str = include_str!("golden/transcript.txt");

/// A phase: the configuration that is checked in, and the processes that it takes.
pub(crate) struct Phase {
    file: &'static str,
    text: &'static str,
    /// The words of each process; the last leads.
    pub(crate) processes: &'static [&'static [&'static str]],
}

pub(crate) const MONOLITH: Phase = Phase {
    file: "1-monolith.toml",
    text: include_str!("../../phases/1-monolith.toml"),
    processes: &[&["up"]],
};

pub(crate) const HYBRID: Phase = Phase {
    file: "2-hybrid.toml",
    text: include_str!("../../phases/2-hybrid.toml"),
    processes: &[
        &["run", "wallet-service"],
        &[
            "run",
            "gateway",
            "transaction-service",
            "provider-service",
            "compliance-service",
        ],
    ],
};

pub(crate) const SERVICES: Phase = Phase {
    file: "3-services.toml",
    text: include_str!("../../phases/3-services.toml"),
    processes: &[
        &["run", "wallet-service"],
        &["run", "transaction-service"],
        &["run", "provider-service"],
        &["run", "compliance-service"],
        &["run", "gateway"],
    ],
};

/// Servers and ports of a test's own, over what the configuration says.
pub(crate) struct Places {
    variables: Vec<(String, String)>,
}

impl Places {
    pub(crate) fn new() -> Self {
        let bus = format!(
            "{}?prefix=diboas{}.&takeover_ms=2000",
            Server::shared().url(),
            free_port().unwrap()
        );
        let store = format!("{}_{{service}}", Postgres::shared().schema_url("diboas"));
        let mut variables = vec![
            ("TRUNKLINE__BUS".to_owned(), bus),
            ("TRUNKLINE__STORE".to_owned(), store),
        ];
        for service in ["WALLET", "TRANSACTION", "PROVIDER", "COMPLIANCE"] {
            let name = format!("TRUNKLINE__SERVICE__{service}_SERVICE__URL");
            variables.push((name, format!("http://127.0.0.1:{}", free_port().unwrap())));
        }
        Self { variables }
    }

    /// The process of a phase, which is told of the places that its configuration has.
    pub(crate) fn process(&self, world: &World, phase: &Phase, words: &[&str]) -> Command {
        let config = world.configuration(phase.file, phase.text);
        let mut process = world.process(words, &config);
        let is_named = |name: &str| {
            let service = name.strip_prefix("TRUNKLINE__SERVICE__");
            service
                .and_then(|rest| rest.strip_suffix("__URL"))
                .is_none_or(|service| {
                    let section = service.to_ascii_lowercase().replace('_', "-");
                    phase.text.contains(&format!("[service.{section}]"))
                })
        };
        process.envs(
            self.variables
                .iter()
                .filter(|(name, _)| is_named(name))
                .cloned(),
        );
        if !words.contains(&"gateway") && words[0] == "run" {
            process.args(["--admin", "127.0.0.1:0"]);
        }
        process
    }

    /// Starts a phase's processes, the last when the others are up.
    pub(crate) fn start(&self, world: &World, phase: &Phase) -> Vec<Child> {
        let processes = phase.processes.iter();
        processes
            .map(|words| world.spawn(self.process(world, phase, words)))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn phase_1_embedded() {
    let finance = TestFinance::start().await;
    similar(&story::play(&finance).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn phase_1_on_servers() {
    plays(&MONOLITH).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn phase_2() {
    plays(&HYBRID).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn phase_3() {
    plays(&SERVICES).await;
}

async fn plays(phase: &Phase) {
    let world = World::new().await;
    let processes = Places::new().start(&world, phase);
    world.well().await;
    similar(&story::play(&world).await);
    for process in processes.into_iter().rev() {
        process.terminate().unwrap();
        world.has_ended(process).await;
    }
}

#[track_caller]
fn similar(told: &str) {
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/it/golden/transcript.txt"
        );
        std::fs::write(file, told).unwrap();
    } else {
        assert!(told == TRANSCRIPT, "the transcript differs:\n{told}");
    }
}
