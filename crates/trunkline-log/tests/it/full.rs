//! A disk that is really full: a small file system of its own, where that is permitted.

use std::path::Path;
use std::process::Command;

use trunkline_bus::{Start, Transport};
use trunkline_core::{Env, ErrorKind, Retry};
use trunkline_log::{Log, LogConfig};
use trunkline_testkit::topic;

use crate::support::{padded, read_all, spec};

/// A file system of so many bytes, unmounted when dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// None where mounting is not permitted, unless `TRUNKLINE_REQUIRE` lists `tmpfs`.
    fn new(bytes: usize) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(dir.path())
            .output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        let required = std::env::var("TRUNKLINE_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|name| name == "tmpfs"),
            "a tmpfs can't be mounted"
        );
        eprintln!(
            "not run: a tmpfs can't be mounted here; the injected failures are tested anyway"
        );
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(self.path()).status());
    }
}

fn config(dir: &Path) -> LogConfig {
    let mut config = LogConfig::new(dir.join("bus"));
    config.segment_bytes_max = 128 * 1024;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_goes_on_when_there_is_space() {
    let Some(disk) = Mounted::new(1 << 20) else {
        return;
    };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![0; 300 * 1024]).unwrap();
    let log = Log::open(config(disk.path()), Env::system()).unwrap();
    log.declare(&[topic("t", 3)]).await.unwrap();
    let mut accepted = 0;
    let refused = loop {
        match log.publish(&[padded("k0", accepted)]).await {
            Ok(()) => accepted += 1,
            Err(refused) => break refused,
        }
        assert!(accepted < 10_000, "the disk does not fill");
    };
    assert_eq!(refused.accepted, 0);
    assert_eq!(
        refused.error.kind(),
        ErrorKind::Unavailable,
        "{:?}",
        refused.error
    );
    assert_eq!(refused.error.retry(), Retry::Transient);
    assert_eq!(refused.error.code(), "log_full");
    // What it had prepared is given back, which may be room for some more; then it is still full.
    while log.publish(&[padded("k0", accepted)]).await.is_ok() {
        accepted += 1;
        assert!(accepted < 10_000, "the disk does not fill");
    }
    // What was accepted is there while the disk is full.
    let (all, error) = read_all(&log).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(all.len(), accepted);
    std::fs::remove_file(&ballast).unwrap();
    for n in accepted..accepted + 100 {
        log.publish(&[padded("k0", n)]).await.unwrap();
    }
    let mut member = log
        .subscribe(&spec(Some("g"), Start::Committed))
        .await
        .unwrap();
    assert_eq!(member.next(1).await.unwrap().len(), 1);
    drop(member);
    drop(log);
    let log = Log::open(config(disk.path()), Env::system()).unwrap();
    let (all, error) = read_all(&log).await;
    assert!(error.is_none(), "{error:?}");
    let expected = (0..accepted + 100).map(|n| padded("k0", n));
    assert!(all.into_iter().map(|(.., event)| event).eq(expected));
}

#[test]
fn a_disk_that_is_full_from_the_start_is_told() {
    let Some(disk) = Mounted::new(64 * 1024) else {
        return;
    };
    std::fs::write(disk.path().join("ballast"), vec![0; 60 * 1024]).unwrap();
    match Log::open(config(disk.path()), Env::system()) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.code(), "log_full", "{error:?}"),
    }
    // Not a page is left now.
    drop(std::fs::write(disk.path().join("more"), vec![0; 64 * 1024]));
    let mut config = config(disk.path());
    config.dir = disk.path().join("other");
    let error = Log::open(config, Env::system()).unwrap_err();
    assert_eq!(error.code(), "log_full", "{error:?}");
}
