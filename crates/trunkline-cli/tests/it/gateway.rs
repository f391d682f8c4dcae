//! Configurations of the gateway by the command.

use serde_json::Value;

use crate::kit::run;

#[tokio::test]
async fn a_kong_file_is_checked_and_everything_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kong.yml");
    let path = file.to_str().unwrap();
    std::fs::write(
        &file,
        include_str!("../../../trunkline-gateway/src/file/tests/seed.yml"),
    )
    .unwrap();
    let right = run(&["gateway", "check", path]).await;
    assert_eq!(right.code, Some(0), "{}", right.err);
    assert!(
        right
            .out
            .contains("is right: 2 services, 2 routes, 0 upstreams, 0 consumers, 5 plugins"),
        "{}",
        right.out
    );
    let json = run(&["--json", "gateway", "check", path]).await;
    let json: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(json["plugins"], 5);

    std::fs::write(
        &file,
        "services:\n- name: a\n  retrys: 3\n  routes: [{name: r, paths: [x]}]\n",
    )
    .unwrap();
    let wrong = run(&["gateway", "check", path]).await;
    assert_eq!(wrong.code, Some(1));
    for said in [
        "kong.yml:3:3: services[0].retrys: unknown field `retrys`; did you mean `retries`?",
        "kong.yml:4:",
    ] {
        assert!(wrong.err.contains(said), "{said}\n{}", wrong.err);
    }
    let missing = run(&["gateway", "check", "nowhere.yml"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.err.contains("nowhere.yml can't be read"),
        "{}",
        missing.err
    );
}
