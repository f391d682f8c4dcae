//! The manifests for Kubernetes, by whoever knows its schemas.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use trunkline_testkit::python;

fn kubernetes(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diboas"));
    command.arg("kubernetes").args(words).output().unwrap()
}

#[test]
fn manifests_are_what_kubernetes_expects() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/phases/3-services.toml");
    let made = kubernetes(&["--image", "diboas:1", "--config", file]);
    assert!(made.status.success(), "{made:?}");
    let mut validator = Command::new(python::venv())
        .args(["-m", "kubernetes_validate", "--strict", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = validator.stdin.take().unwrap();
    input.write_all(&made.stdout).unwrap();
    drop(input);
    let said = validator.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{text}");
    for name in [
        "deployment/wallet-service",
        "networkpolicy/gateway",
        "service/provider-service",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
    let manifests = String::from_utf8(made.stdout).unwrap();
    assert!(
        manifests.contains("/var/lib/trunkline/events.key"),
        "{manifests}"
    );
}

#[test]
fn what_can_not_run_in_pods_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("embedded.toml");
    std::fs::write(&file, "").unwrap();
    let config = file.to_str().unwrap();
    for (words, told) in [
        (
            &["--image", "i", "--config", config][..],
            "expected a `bus` that these share",
        ),
        (&["--image", "i", "--config", "/nowhere"], "can't be read"),
        (
            &["--image", "i", "--config", config, "--replicas-min", "11"],
            "--replicas-max",
        ),
        (&["--config", config], "--image"),
        (
            &["--image", "i", "--config", config, "--replicas-max", "0"],
            "1..=1000",
        ),
    ] {
        let refused = kubernetes(words);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(
            !refused.status.success() && said.contains(told),
            "{words:?}: {said}"
        );
    }
}
