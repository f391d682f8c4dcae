//! Secrets, and the file that keeps one.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use trunkline_core::{Env, Error, Result};

use crate::error::bad_key;

/// The least entropy of a secret: as long as the hash that it keys (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;
/// More than any secret needs; a larger file is something else.
const FILE_BYTES_MAX: u64 = 4096;

/// Bytes that nobody else may know; never printed.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret of the caller's.
    ///
    /// # Errors
    /// `InvalidInput` for one of less than 32 bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self> {
        let bytes = bytes.into();
        if bytes.len() < SECRET_BYTES_MIN {
            return Err(
                bad_key("expected a secret of at least 32 bytes").with("found", bytes.len())
            );
        }
        Ok(Self(bytes))
    }

    /// A new random secret of 32 bytes.
    pub fn generate(env: &Env) -> Self {
        let mut bytes = vec![0; SECRET_BYTES_MIN];
        env.random_bytes(&mut bytes);
        Self(bytes)
    }

    /// The secret that the file at `path` keeps; on the first start a new one is made and kept there.
    ///
    /// # Guarantees
    /// The file is made for its owner alone (0600), in a folder for its owner alone (0700) if that has to be
    /// made too. Processes that start at the same time end up with the same secret, and none reads half of it.
    ///
    /// # Errors
    /// `PermissionDenied` for a file that others may read or write; `Corrupt` for one that is not a secret;
    /// `Unavailable` where the file can't be read or written, with the cause.
    pub fn load_or_create(path: &Path, env: &Env) -> Result<Self> {
        match read(path) {
            Err(error) if error.code() == FILE_MISSING => {}
            found => return found,
        }
        create(path, &Self::generate(env), env).map_err(|error| failed(path, "written", error))?;
        read(path)
    }

    /// The secret that the file at `path` keeps.
    ///
    /// # Errors
    /// As [`Secret::load_or_create`]; `Unavailable` where there is no such file.
    pub fn load(path: &Path) -> Result<Self> {
        read(path)
    }

    /// HMAC-SHA256 of `data`: only who has the secret can make it.
    pub fn mac(&self, data: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut mac = [0; 32];
        for (to, from) in mac.iter_mut().zip(hmac::sign(&key, data).as_ref()) {
            *to = *from;
        }
        mac
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

const FILE_MISSING: &str = "secret_file_missing";

fn read(path: &Path) -> Result<Secret> {
    let meta = fs::metadata(path).map_err(|error| failed(path, "read", error))?;
    let mode = meta.permissions().mode() & 0o777;
    // Root may let a group read it, as PostgreSQL has it: secrets that are mounted in a container are like that.
    let others = if meta.uid() == 0 { 0o037 } else { 0o077 };
    if mode & others != 0 {
        return Err(Error::new(
            trunkline_core::ErrorKind::PermissionDenied,
            "secret_file_exposed",
            "expected a secret file that its owner alone may read (chmod 600)",
        )
        .with("file", path.display())
        .with("mode", format!("{mode:03o}")));
    }
    let corrupt = || {
        Error::new(
            trunkline_core::ErrorKind::Corrupt,
            "secret_file_invalid",
            "expected at least 32 bytes in base64url; remove the file to have a new secret made",
        )
        .with("file", path.display())
    };
    if meta.size() > FILE_BYTES_MAX {
        return Err(corrupt());
    }
    let text = fs::read_to_string(path).map_err(|error| failed(path, "read", error))?;
    decode(&text).ok_or_else(corrupt)
}

/// A secret as text: base64url without padding.
pub(crate) fn decode(text: &str) -> Option<Secret> {
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end()).ok()?;
    Secret::new(bytes).ok()
}

/// Writes a file of its own beside `path` and gives it that name if nobody has taken it.
fn create(path: &Path, secret: &Secret, env: &Env) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let draft: PathBuf = folder.join(format!(".secret-{}", env.id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let written = writeln!(file, "{}", URL_SAFE_NO_PAD.encode(&secret.0))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    match written {
        // Another process was first: its secret counts.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.and_then(|()| fs::File::open(folder)?.sync_all()),
    }
}

fn failed(path: &Path, what: &'static str, error: io::Error) -> Error {
    let code = if error.kind() == io::ErrorKind::NotFound {
        FILE_MISSING
    } else {
        "secret_file_unusable"
    };
    Error::unavailable(code, format!("the secret file can't be {what}"))
        .with_retry(trunkline_core::Retry::Permanent)
        .with("file", path.display())
        .with_source(error)
}

#[cfg(test)]
mod tests;
