//! Parts in processes of their own: started, started again, stopped in order.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use trunkline_service::{Notice, Part, Processes};

const GRACE: Duration = Duration::from_secs(10);

/// A part that runs this shell script.
fn part(name: &'static str, script: &str) -> Part {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Part::new(name, command)
}

/// One that says that it is up, and ends when it is asked to, and writes that down.
fn obedient(name: &'static str, journal: &Path) -> Part {
    let journal = journal.display();
    let script = format!(
        "trap 'echo {name} ended >> {journal}; exit 0' TERM; echo {name} up >> {journal}; \
         echo '{name} is up'; while :; do sleep 0.01; done"
    );
    part(name, &script)
}

/// Runs parts until `until` has been told, then asks them to end; what was told.
async fn run(parts: Vec<Part>, until: impl Fn(&Notice) -> bool) -> (Vec<String>, Option<String>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let stop = Arc::new(Notify::new());
    let stopped = stop.clone();
    let processes = Processes::new(parts, GRACE);
    let ended = processes.run(async move { stopped.notified().await }, |notice| {
        if until(&notice) {
            stop.notify_one();
        }
        told.lock().push(notice.to_string());
    });
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
    let failed = ended.expect("it ends").err().map(|error| error.to_string());
    let told = std::mem::take(&mut *told.lock());
    (told, failed)
}

#[tokio::test]
async fn the_last_begins_last_and_ends_first() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let parts = ["orders", "carts", "gateway"].map(|name| obedient(name, &journal));
    let (told, failed) = run(parts.into(), |notice| matches!(notice, Notice::AllUp)).await;
    assert_eq!(failed, None);
    let all_up = told.iter().filter(|line| *line == "all is up").count();
    assert_eq!(all_up, 1, "{told:?}");
    let journal = std::fs::read_to_string(journal).unwrap();
    let lines: Vec<&str> = journal.lines().collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert_eq!(&lines[2..4], ["gateway up", "gateway ended"]);
}

#[tokio::test]
async fn one_that_ends_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let script = format!(
        "if [ -e {0} ]; then echo 'a is up again'; else touch {0}; echo 'a is up'; exit 3; fi; \
         exec sleep 1000",
        seen.display()
    );
    let (told, failed) = run(
        vec![part("a", &script)],
        |notice| matches!(notice, Notice::Line { line, .. } if line == "a is up again"),
    )
    .await;
    assert_eq!(failed, None);
    let ended = told.iter().find(|line| line.contains("ended")).unwrap();
    assert!(
        ended.contains("exit status: 3") && ended.contains("250ms"),
        "{ended}"
    );
}

#[tokio::test]
async fn one_that_never_comes_up_stops_all_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let parts = vec![
        obedient("carts", &journal),
        part("orders", "echo 'no such database' >&2; exit 1"),
        obedient("gateway", &journal),
    ];
    let (told, failed) = run(parts, |_| false).await;
    let failed = failed.unwrap();
    assert!(
        failed.contains("orders") && failed.contains("no such database"),
        "{failed}"
    );
    assert_eq!(
        told.iter()
            .filter(|line| line.starts_with("orders ended"))
            .count(),
        4
    );
    let journal = std::fs::read_to_string(journal).unwrap();
    assert_eq!(
        journal.lines().collect::<Vec<_>>(),
        ["carts up", "carts ended"]
    );
}

#[tokio::test]
async fn one_that_does_not_listen_is_killed() {
    let deaf = part(
        "deaf",
        "trap '' TERM; echo 'deaf is up'; while :; do sleep 0.01; done",
    );
    let processes = Processes::new(vec![deaf], Duration::from_millis(100));
    let up = Arc::new(Notify::new());
    let stop = up.clone();
    let ended = processes.run(async move { stop.notified().await }, |notice| {
        if matches!(notice, Notice::AllUp) {
            up.notify_one();
        }
    });
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
    ended.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_program_that_is_missing_is_named() {
    let missing = Part::new("a", Command::new("/nowhere/storefront"));
    let (_, failed) = run(vec![missing], |_| false).await;
    let failed = failed.unwrap();
    assert!(failed.contains("can't be started (part: a)"), "{failed}");
}
