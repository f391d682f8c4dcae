//! What can't start says why.

use std::net::{SocketAddr, TcpListener};

use trunkline_service::{Platform, Service};

use crate::shop::configuration;

fn platform() -> Platform {
    Platform::new("p").service(Service::new("a"))
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let data = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = configuration(data.path(), "memory:");
    config.gateway.address = taken.local_addr().unwrap();
    let error = platform().start(config).await.unwrap_err().to_string();
    let address = taken.local_addr().unwrap().to_string();
    assert!(error.contains("in use") && error.contains(&address), "{error}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = platform().start(configuration(&file, "memory:")).await.unwrap_err().to_string();
    assert!(error.contains("data folder") && error.contains("file"), "{error}");
}

#[tokio::test]
async fn an_unknown_engine_is_named() {
    let data = tempfile::tempdir().unwrap();
    let error = platform().start(configuration(data.path(), "carrier:pigeon")).await.unwrap_err();
    assert!(error.to_string().contains("carrier:pigeon"), "{error}");
}

#[tokio::test]
async fn one_data_folder_serves_one_process() {
    let data = tempfile::tempdir().unwrap();
    let first = platform().start(configuration(data.path(), "log:{data}/bus")).await.unwrap();
    let error = platform().start(configuration(data.path(), "log:{data}/bus")).await.unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    first.shutdown().await;
}

#[tokio::test]
async fn beyond_loopback_the_admin_address_wants_a_token() {
    let data = tempfile::tempdir().unwrap();
    let mut config = configuration(data.path(), "memory:");
    config.admin.address = SocketAddr::from(([0, 0, 0, 0], 0));
    let error = platform().start(config.clone()).await.unwrap_err();
    assert_eq!(error.code(), "admin_token_missing");
    config.admin.token = Some("short".into());
    assert_eq!(platform().start(config.clone()).await.unwrap_err().code(), "admin_token_short");
    config.admin.token = Some("a token that is long enough".into());
    platform().start(config).await.unwrap().shutdown().await;
}
