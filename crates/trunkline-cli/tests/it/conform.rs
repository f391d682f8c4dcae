//! The conformance suite as a command, over a real server.

use std::process::Command;

use trunkline_testkit::redis;

fn conform(url: &str, case: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
    let output = command
        .args(["conform", "--to", url, case])
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), said.concat())
}

#[test]
fn an_engine_of_ones_own_is_judged() {
    let (code, said) = conform(&redis::Server::shared().url(), "a_batch");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("redis::a_batch_keeps_its_order"), "{said}");
    assert!(said.contains("stay on the server"), "{said}");
    assert!(!said.contains("0 passed"), "{said}");
}

#[test]
fn an_engine_that_is_not_there_is_told() {
    let (code, said) = conform("redis://127.0.0.1:1", "");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("127.0.0.1:1"), "{said}");
    let (code, said) = conform("mqtt://127.0.0.1", "");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("redis://") && said.contains("found: mqtt"),
        "{said}"
    );
}
