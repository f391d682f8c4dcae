//! What keeps a platform from starting is said in one message, with what to do.

use std::sync::Arc;

use serde::Deserialize;
use trunkline_core::{Error, ErrorKind};
use trunkline_service::{Config, Platform, Service};

use crate::sample::{Sample, Switches, config, platform};

async fn refused(config: Config) -> Error {
    let switches = Arc::new(Switches::default());
    platform(&switches).start(config).await.unwrap_err()
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.admin.address = address;
    let error = refused(config).await.to_string();
    assert!(
        error.contains("in use") && error.contains(&address.to_string()),
        "{error}"
    );
    assert!(error.contains("choose another"), "{error}");
}

#[tokio::test]
async fn a_data_folder_that_is_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.data = folder.path().join("file");
    std::fs::write(&config.data, "x").unwrap();
    let error = refused(config).await;
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Unavailable, "data_unwritable")
    );
    assert!(
        error.to_string().contains("file") && error.to_string().contains("--data"),
        "{error}"
    );
}

#[tokio::test]
async fn a_data_folder_belongs_to_one_process() {
    let sample = Sample::start().await;
    let error = refused(config(sample.folder.path())).await;
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Conflict, "data_in_use"),
        "{error}"
    );
    sample.stop().await;
}

#[tokio::test]
async fn an_admin_address_beyond_loopback_needs_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let mut open = config(folder.path());
    open.admin.address = ([0, 0, 0, 0], 0).into();
    let error = refused(open.clone()).await;
    assert_eq!(error.code(), "admin_token_missing");
    open.admin.token = Some("short".to_owned());
    assert_eq!(refused(open).await.code(), "admin_token_short");
}

#[tokio::test]
async fn an_unknown_engine_is_refused_with_what_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.bus = "carrier-pigeon:".to_owned();
    let error = refused(config.clone()).await.to_string();
    assert!(
        error.contains("carrier-pigeon") && error.contains("memory:"),
        "{error}"
    );
    config.bus = "memory:".to_owned();
    config.store = "paper:".to_owned();
    assert_eq!(refused(config).await.code(), "store_url_invalid");
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    limit: u32,
}

/// The message for a file with this text; the file's own name is left out.
async fn refused_file(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trunkline.toml");
    std::fs::write(&file, text).unwrap();
    let started = async {
        let mut config = Config::load(Some(&file), [])?;
        config.data = folder.path().join("data");
        let service = Service::new("order-service").config::<Section>();
        Platform::new("p").service(service).start(config).await
    };
    let error = started.await.unwrap_err().to_string();
    error.replace(&file.display().to_string(), "trunkline.toml")
}

#[tokio::test]
async fn mistakes_in_the_file_are_told_as_they_always_were() {
    let golden = include_str!("golden/config.txt");
    let mut told = String::new();
    for text in [
        "bus = \"memory:\"\n[gateway]\nadress = \"127.0.0.1:1\"\n",
        "[admin]\naddress = \"here\"\n",
        "shutdown_seconds = \"long\"\n",
        "bus = memory:\n",
        "[service.ordr-service]\nlimit = 1\n",
        "[service.order-service]\nlimit = 1\nlimits = 2\n",
        "[external.payment]\nurl = \"http://127.0.0.1:1\"\n",
    ] {
        told += &format!("--- {text}{}\n", refused_file(text).await);
    }
    if std::env::var_os("TRUNKLINE_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden/config.txt");
        std::fs::write(path, &told).unwrap();
    }
    assert_eq!(told, golden);
}
