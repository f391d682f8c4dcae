//! A development CA by the command.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::kit::{Ran, run};

async fn certs(dir: &std::path::Path, args: &[&str]) -> Ran {
    let dir = dir.to_str().unwrap();
    let mut all = vec!["certs", "--dir", dir];
    all.extend(args);
    run(&all).await
}

#[tokio::test]
async fn certificates_are_made_and_their_root_is_changed_in_three_steps() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("certs");
    let missing = certs(&dir, &["show"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.err.contains("trunkline certs init"),
        "{}",
        missing.err
    );
    let made = certs(&dir, &["init", "--trust-domain", "shop.test"]).await;
    assert_eq!(made.code, Some(0), "{}", made.err);
    let twice = certs(&dir, &["init", "--trust-domain", "shop.test"]).await;
    assert_eq!(twice.code, Some(1));
    let issued = certs(&dir, &["issue", "order-service", "stock-service"]).await;
    assert_eq!(issued.code, Some(0), "{}", issued.err);
    assert!(
        issued.out.contains("spiffe://shop.test/order-service"),
        "{}",
        issued.out
    );
    assert!(!format!("{issued:?}").contains("PRIVATE"));
    let key = dir.join("order-service/key.pem");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let early = certs(&dir, &["rotate", "switch"]).await;
    assert_eq!(early.code, Some(1));
    assert!(early.err.contains("turn_of: Begin"), "{}", early.err);
    let begun = certs(&dir, &["rotate", "begin"]).await;
    assert!(
        begun.out.contains("2 roots") && begun.out.contains("roots: switch"),
        "{}",
        begun.out
    );
    let hasty = certs(&dir, &["rotate", "switch"]).await;
    assert!(hasty.err.contains("seconds_left"), "{}", hasty.err);
    for step in ["switch", "finish"] {
        let taken = certs(&dir, &["rotate", step, "--settle", "0"]).await;
        assert_eq!(taken.code, Some(0), "{}", taken.err);
    }
    let shown = certs(&dir, &["show", "--json"]).await;
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(shown["next_step"], "begin");
    for leaf in shown["issued"].as_array().unwrap() {
        assert_eq!(
            (&leaf["trusts"], &leaf["by_current_root"]),
            (&1.into(), &true.into())
        );
    }
    let renewed = certs(&dir, &["renew"]).await;
    assert_eq!(renewed.code, Some(0), "{}", renewed.err);
    let wrong = certs(&dir, &["issue", "../x"]).await;
    assert_eq!(wrong.code, Some(1));
}
