//! How processes prove to each other who they are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use trunkline_core::{Error, Result};
use trunkline_security::CertificatesConfig;

use super::Config;

/// Certificates: with this section every call between processes is mTLS, and carries the caller's token.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Tls {
    /// The folder of what a service shows and of whom it trusts: `{data}/certs/{service}`.
    pub folder: String,
    /// The certificate there, and those between it and the root: `cert.pem`.
    pub cert: PathBuf,
    /// Its private key: `key.pem`.
    pub key: PathBuf,
    /// The roots that are trusted: `ca.pem`.
    pub roots: PathBuf,
    /// The platform's name in certificates: that of the platform.
    pub trust_domain: Option<String>,
    /// How often the files are looked at, in seconds: 5.
    pub look_every_seconds: u64,
    /// Whether a CA for development makes what is missing: `false`. Whoever reads its folder can be any service.
    pub development: bool,
}

/// Tokens, by which services prove who they are. They come with certificates; with this section they come alone too.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Tokens {
    /// The folder of the keys that sign a service's tokens: `{data}/identity/{service}`. Replicas of a service share it.
    pub keys: String,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            folder: "{data}/certs/{service}".to_owned(),
            cert: PathBuf::from("cert.pem"),
            key: PathBuf::from("key.pem"),
            roots: PathBuf::from("ca.pem"),
            trust_domain: None,
            look_every_seconds: 5,
            development: false,
        }
    }
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            keys: "{data}/identity/{service}".to_owned(),
        }
    }
}

impl Config {
    /// Whether calls between processes carry tokens.
    pub(crate) fn signs(&self) -> bool {
        self.tls.is_some() || self.identity.is_some()
    }

    /// The folder of the keys that sign a service's tokens.
    pub(crate) fn keys_of(&self, service: &str) -> PathBuf {
        let default = Tokens::default();
        let tokens = self.identity.as_ref().unwrap_or(&default);
        PathBuf::from(self.url(&tokens.keys, service))
    }

    /// Where a service's certificate is.
    pub(crate) fn certificates_of(
        &self,
        tls: &Tls,
        platform: &str,
        service: &str,
    ) -> CertificatesConfig {
        let folder = PathBuf::from(self.url(&tls.folder, service));
        let domain = tls.trust_domain.as_deref().unwrap_or(platform);
        let mut config = CertificatesConfig::in_folder(&folder, domain);
        config.cert = folder.join(&tls.cert);
        config.key = folder.join(&tls.key);
        config.roots = folder.join(&tls.roots);
        config.poll_every = Duration::from_secs(tls.look_every_seconds.max(1));
        config
    }

    /// The folder of the CA for development, whose services' folders are what is looked at.
    ///
    /// # Errors
    /// `InvalidInput` where the services' folders are not in one, or their files have other names.
    pub(crate) fn authority(&self, tls: &Tls) -> Result<PathBuf> {
        let names = [&tls.cert, &tls.key, &tls.roots];
        let usual = names == ["cert.pem", "key.pem", "ca.pem"].map(Path::new);
        let folder = tls.folder.strip_suffix("/{service}");
        let folder = folder.filter(|folder| usual && !folder.contains("{service}"));
        let folder = folder.ok_or_else(|| {
            let text = "expected `folder` to end with /{service}, and cert.pem, key.pem and ca.pem in it: \
                        `development` makes them so";
            Error::invalid("config_invalid", text)
                .with("section", "tls")
                .with("found", &tls.folder)
        })?;
        Ok(PathBuf::from(self.url(folder, "")))
    }

    /// What addresses of services begin with.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.tls {
            Some(_) => "https",
            None => "http",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Config {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()), []).unwrap()
    }

    #[test]
    fn a_section_turns_it_on_and_says_where_the_files_are() {
        assert!(!load("").signs());
        assert!(load("[identity]\n").signs());
        let config = load("[tls]\n");
        assert!(config.signs() && config.scheme() == "https");
        let tls = config.tls.as_ref().unwrap();
        let files = config.certificates_of(tls, "shop", "order-service");
        assert_eq!(files.key, Path::new("data/certs/order-service/key.pem"));
        assert_eq!(files.trust_domain, "shop");
        let keys = config.keys_of("order-service");
        assert_eq!(keys, Path::new("data/identity/order-service"));

        let text = "[tls]\nfolder = \"/etc/tls\"\ncert = \"tls.crt\"\nkey = \"tls.key\"\nroots = \"/etc/roots.pem\"\n\
            trust_domain = \"shop.example\"\n[identity]\nkeys = \"/etc/keys\"\n";
        let config = load(text);
        let tls = config.tls.as_ref().unwrap();
        let files = config.certificates_of(tls, "shop", "order-service");
        assert_eq!(files.cert, Path::new("/etc/tls/tls.crt"));
        assert_eq!(files.roots, Path::new("/etc/roots.pem"));
        assert_eq!(files.trust_domain, "shop.example");
        assert_eq!(config.keys_of("a"), Path::new("/etc/keys"));
    }

    #[test]
    fn a_ca_for_development_has_a_folder_for_each_service() {
        let config = load("[tls]\ndevelopment = true\n");
        let tls = config.tls.as_ref().unwrap();
        assert_eq!(config.authority(tls).unwrap(), Path::new("data/certs"));
        for wrong in ["folder = \"/etc/tls\"", "cert = \"tls.crt\""] {
            let config = load(&format!("[tls]\n{wrong}\n"));
            let error = config.authority(config.tls.as_ref().unwrap());
            let error = error.unwrap_err().to_string();
            assert!(error.contains("/{service}"), "{error}");
        }
    }
}
