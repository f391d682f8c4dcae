//! What the store prints when it starts, and what it says when it can't.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use trunkline::Config;
use trunkline_testkit::Child;

fn storefront() -> Command {
    Command::new(env!("CARGO_BIN_EXE_storefront"))
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// The lines of a started store's output, as they come.
fn lines(child: &mut Child) -> mpsc::Receiver<String> {
    let output = BufReader::new(child.process().stdout.take().unwrap());
    let (sender, receiver) = mpsc::sync_channel(1_000);
    std::thread::spawn(move || {
        output
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line))
    });
    receiver
}

fn next(lines: &mpsc::Receiver<String>, wanted: impl Fn(&str) -> bool) -> String {
    loop {
        let line = lines
            .recv_timeout(Duration::from_secs(30))
            .expect("the store prints on");
        if wanted(&line) {
            return line;
        }
    }
}

#[test]
fn the_five_lines_that_are_printed_work_as_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = storefront();
    command
        .arg("--data")
        .arg(folder.path().join("data"))
        .current_dir(folder.path());
    command.args(["--gateway", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.args(["--sandbox", "127.0.0.1:0"]);
    let mut store = Child::spawn(command.stdout(Stdio::piped())).unwrap();
    let printed = lines(&mut store);
    let curl: Vec<_> = (0..5)
        .map(|_| next(&printed, |line| line.trim().starts_with("curl ")))
        .collect();

    let answers: Vec<Value> = curl
        .iter()
        .map(|line| {
            let output = run(Command::new("sh").args(["-c", line]));
            let text = String::from_utf8(output.stdout).unwrap();
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}\n{text}\n{error}"))
        })
        .collect();
    assert!(
        answers[0]["items"]
            .as_array()
            .is_some_and(|items| !items.is_empty()),
        "{answers:?}"
    );
    assert_eq!(answers[1]["items"][0]["quantity"], 2, "{answers:?}");
    assert_eq!(answers[2]["status"], "pending", "{answers:?}");
    assert_eq!(
        answers[3]["items"][0]["order_id"], answers[2]["order_id"],
        "{answers:?}"
    );
    assert!(answers[4]["available"].is_number(), "{answers:?}");
    next(&printed, |line| line.contains("the order is confirmed"));

    store.terminate().unwrap();
    assert!(
        store.process().wait().unwrap().success(),
        "it ends well when it is asked to"
    );
}

/// Starts a store that can't start, and gives what it says of that.
fn refusal(folder: &Path, arguments: &[&str]) -> String {
    let mut command = storefront();
    command
        .current_dir(folder)
        .args(["--gateway", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let output = run(command.args(["--sandbox", "127.0.0.1:0"]).args(arguments));
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_broken_configuration_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    for (config, named) in [
        ("[service.payment-service]\ntimeout_ms = \"soon\"\n", "2"),
        ("\n[service.payment-service]\ntimeout = 5\n", "3"),
        ("bus = \n", "1"),
        ("[servise]\nx = 1\n", "1"),
        ("[service.notification-service]\nretry_ms = -1\n", "2"),
        ("[service.order-service]\nflow = \"dance\"\n", "2"),
    ] {
        std::fs::write(folder.path().join("store.toml"), config).unwrap();
        let said = refusal(folder.path(), &["--config", "store.toml"]);
        assert!(
            said.contains("store.toml") && said.contains(named),
            "{config}\n{said}"
        );
        assert!(said.contains("expected"), "{config}\n{said}");
    }
    let dance = "[service.order-service]\nflow = \"dance\"\n";
    std::fs::write(folder.path().join("store.toml"), dance).unwrap();
    let said = refusal(folder.path(), &["--config", "store.toml"]);
    for word in ["dance", "choreography", "orchestration"] {
        assert!(said.contains(word), "{said}");
    }
    let said = refusal(folder.path(), &["--config", "missing.toml"]);
    assert!(said.contains("missing.toml"), "{said}");
}

#[test]
fn a_port_in_use_and_a_folder_that_is_none_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let free = "127.0.0.1:0";
    for option in ["--gateway", "--admin", "--sandbox"] {
        let mut command = storefront();
        command.current_dir(folder.path());
        for each in ["--gateway", "--admin", "--sandbox"] {
            command.args([each, if each == option { &*address } else { free }]);
        }
        let output = run(&mut command);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{said}");
        assert!(
            said.contains(&address) && said.contains("choose another"),
            "{said}"
        );
    }
    // A file in the way keeps even root from making the folder.
    std::fs::write(folder.path().join("file"), "").unwrap();
    let said = refusal(folder.path(), &["--data", "file/data"]);
    assert!(
        said.contains("file/data") && said.contains("choose another with --data"),
        "{said}"
    );
}

#[test]
fn the_configuration_guide_says_what_is_so() {
    let guide = include_str!("../../../../docs/guides/configuration.md");
    let blocks: Vec<_> = guide
        .split("```toml\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trunkline.toml");
    let load = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file), []).unwrap_or_else(|error| panic!("{text}\n{error}"))
    };
    for block in &blocks {
        load(block);
    }
    let (shown, defaults) = (load(blocks[0]), Config::default());
    assert_eq!(shown.data, defaults.data);
    assert_eq!((&shown.bus, &shown.store), (&defaults.bus, &defaults.store));
    let numbers = |config: &Config| {
        let (events, days) = (&config.events, config.trail_days);
        let retry = (events.retry_initial_ms, events.retry_max_ms);
        let (limit, kept) = (config.shutdown_seconds, config.trail_events_max);
        let handled = (events.attempts_max, events.handler_timeout_ms);
        (limit, days, kept, handled, retry)
    };
    assert_eq!(numbers(&shown), numbers(&defaults));
    assert_eq!(shown.gateway.address, defaults.gateway.address);
    assert_eq!(shown.admin.address, defaults.admin.address);
    assert_eq!(shown.log.filter, defaults.log.filter);

    fn section<T: Default + Serialize + DeserializeOwned>(config: &Config, service: &str) {
        let shown: T = config.service[service].clone().try_into().unwrap();
        let [shown, default] =
            [shown, T::default()].map(|value| serde_json::to_value(value).unwrap());
        assert_eq!(shown, default, "{service}");
    }
    let services = load(blocks[1]);
    section::<storefront::order::Config>(&services, storefront::order::NAME);
    section::<storefront::inventory::Config>(&services, storefront::inventory::NAME);
    section::<storefront::payment::Config>(&services, storefront::payment::NAME);
    section::<storefront::notification::Config>(&services, storefront::notification::NAME);
}

#[test]
fn help_tells_the_rest() {
    let help = String::from_utf8(run(storefront().arg("--help")).stdout).unwrap();
    for word in [
        "up",
        "token",
        "sandbox",
        "schemas",
        "--data",
        "--gateway",
        "--admin",
        "--config",
        "docs/guides/configuration.md",
        "postgres://",
        "tok_declined",
    ] {
        assert!(help.contains(word), "{word}\n{help}");
    }
    let wrong = run(storefront().args(["--gateway", "nowhere"]));
    assert!(!wrong.status.success());
    assert!(
        String::from_utf8(wrong.stderr)
            .unwrap()
            .contains("--gateway")
    );
}
