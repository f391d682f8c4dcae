use serde_json::Value;
use trunkline_testkit::eventually;

use super::{gateway, short_lived};
use crate::kit::SOON;

fn file(path: &std::path::Path, reopen: bool) -> String {
    let path = path.display();
    format!(
        "
services: [{{name: echo, routes: [{{name: api, paths: [/api]}}]}}]
plugins: [{{name: file-log, config: {{path: '{path}', reopen: {reopen}}}}}]"
    )
}

fn lines(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn each_request_is_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    std::fs::write(&path, "{}\n").unwrap();
    let mut kit = short_lived(&file(&path, false)).await;
    for number in 0..20 {
        kit.get(&format!("/api/{number}?line=%0a")).await;
    }
    kit.begin_stop();
    kit.stopped().await;
    let lines = lines(&path);
    assert_eq!(lines.len(), 21, "what was there stays");
    assert_eq!(lines[20]["request"]["uri"], "/api/19?line=%0a");
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (
        folder.path().join("access.log"),
        folder.path().join("old.log"),
    );
    let kit = gateway(&file(&path, true)).await;
    kit.get("/api/1").await;
    eventually(SOON, async || lines(&path).len() == 1).await;
    std::fs::rename(&path, &moved).unwrap();
    kit.get("/api/2").await;
    eventually(SOON, async || lines(&path).len() == 1).await;
    assert_eq!(
        (lines(&moved).len(), &lines(&path)[0]["request"]["uri"]),
        (1, &"/api/2".into())
    );
}

#[tokio::test]
async fn a_place_that_can_not_be_written_costs_no_request() {
    let kit = gateway(&file(std::path::Path::new("/nowhere/at/all.log"), false)).await;
    assert_eq!(kit.get("/api").await.status, 200);
}
