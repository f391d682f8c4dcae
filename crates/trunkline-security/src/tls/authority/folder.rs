//! The files of a development CA.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trunkline_core::{Error, ErrorKind, Result};

use super::State;
use crate::tls::issue::Pair;

/// The root that vouches: its certificate and its private key.
pub(super) const ROOT: &str = "root.pem";
/// The root that will vouch.
pub(super) const NEXT: &str = "next.pem";
/// The certificate of the root that vouched before.
pub(super) const OLD: &str = "old.pem";
const STATE: &str = "authority.json";

/// How a service wants its leaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) dns_names: Vec<String>,
    pub(super) lifetime_seconds: u64,
}

pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(super) fn of(&self, service: &str) -> PathBuf {
        self.0.join(service)
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.file(name).is_file()
    }

    pub(super) fn read(&self, name: &str) -> Result<String> {
        let path = self.file(name);
        fs::read_to_string(&path).map_err(|error| unusable(&path, "read", error))
    }

    /// The certificate in a file, without the private key that may stand beside it.
    pub(super) fn cert(&self, name: &str) -> Result<String> {
        const END: &str = "-----END CERTIFICATE-----";
        let text = self.read(name)?;
        let end = text.find(END).map(|at| at + END.len());
        let cert = end.and_then(|end| text.get(..end));
        let cert = cert.filter(|cert| cert.starts_with("-----BEGIN CERTIFICATE-----"));
        cert.map(|cert| format!("{cert}\n"))
            .ok_or_else(|| corrupt(&self.file(name)))
    }

    /// Writes a file whole or not at all.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.file(name);
        write(&path, text.as_bytes()).map_err(|error| unusable(&path, "written", error))
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<()> {
        let path = self.file(to);
        fs::rename(self.file(from), &path).map_err(|error| unusable(&path, "written", error))
    }

    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        fs::remove_file(&path).map_err(|error| unusable(&path, "removed", error))
    }

    /// The services that have a leaf, by name.
    pub(super) fn services(&self) -> Result<Vec<String>> {
        let failed = |error| unusable(&self.0, "read", error);
        let mut services = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Some(name) = entry.file_name().to_str()
                && entry.path().join("cert.pem").is_file()
            {
                services.push(name.to_owned());
            }
        }
        services.sort_unstable();
        Ok(services)
    }

    pub(super) fn order(&self, service: &str) -> Result<Order> {
        let text = self.read(&format!("{service}/order.json"))?;
        serde_json::from_str(&text).map_err(|_| corrupt(&self.of(service).join("order.json")))
    }

    /// Writes a leaf. Between the key and the certificate they don't fit together, which readers notice: they go on
    /// with what they have.
    pub(super) fn write_leaf(
        &self,
        service: &str,
        order: &Order,
        pair: &Pair,
        bundle: &str,
    ) -> Result<()> {
        let order = serde_json::to_string_pretty(order)
            .map_err(|error| Error::internal("an order can't be written").with_source(error))?;
        for (name, text) in [
            ("order.json", order.as_str()),
            ("ca.pem", bundle),
            ("key.pem", &pair.key),
            ("cert.pem", &pair.cert),
        ] {
            self.write(&format!("{service}/{name}"), text)?;
        }
        Ok(())
    }

    pub(super) fn read_state(&self) -> Result<State> {
        serde_json::from_str(&self.read(STATE)?).map_err(|_| corrupt(&self.file(STATE)))
    }

    pub(super) fn write_state(&self, state: &State) -> Result<()> {
        let text = serde_json::to_string_pretty(state)
            .map_err(|error| Error::internal("the state can't be written").with_source(error))?;
        self.write(STATE, &text)
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let draft = folder.join(format!(".{}.draft", name.to_string_lossy()));
    // One that was left behind may be anybody's to read.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

fn unusable(path: &Path, what: &'static str, error: io::Error) -> Error {
    Error::unavailable(
        "authority_unusable",
        format!("a file of the CA can't be {what}"),
    )
    .with("file", path.display())
    .with_source(error)
}

fn corrupt(path: &Path) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "authority_corrupt",
        "a file of the CA holds something else than it should",
    )
    .with("file", path.display())
}
