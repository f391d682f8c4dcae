//! What the processes of a platform share for those who are connected to them.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// How browsers are reached.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RealtimeSection {
    /// What the processes of a service share, so that its rooms span them: `redis://host:6379/0`; none by default, and then the rooms of
    /// each process are its own. All processes of the platform have to say the same.
    #[serde(deserialize_with = "backbone")]
    pub backbone: Option<String>,
}

impl fmt::Debug for RealtimeSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There may be a password in it.
        f.debug_struct("RealtimeSection")
            .field("backbone", &self.backbone.is_some())
            .finish()
    }
}

/// A URL of a backbone, so that the message of one that is wrong has its line.
fn backbone<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let url = String::deserialize(from)?;
    match check(&url) {
        Ok(()) => Ok(Some(url)),
        Err(text) => Err(serde::de::Error::custom(text)),
    }
}

fn check(url: &str) -> Result<(), String> {
    if !url.starts_with("redis://") {
        return Err("expected `backbone` to be redis://HOST:PORT".to_owned());
    }
    #[cfg(feature = "redis")]
    trunkline_redis::RedisConfig::from_url(url).map_err(|error| error.to_string())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::Config;

    fn load(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()), []).map_err(|error| error.to_string())
    }

    #[test]
    fn a_backbone_is_a_redis_server_and_a_mistake_has_its_line() {
        let config = load("[realtime]\nbackbone = \"redis://:secret@h:6379/0\"\n").unwrap();
        let url = config.realtime.backbone.as_deref();
        assert_eq!(url, Some("redis://:secret@h:6379/0"));
        assert!(!format!("{config:?}").contains("secret"));
        for (wrong, said) in [
            ("backbone = \"nats://h\"", "redis://HOST:PORT"),
            ("backbone = 7", "expected a string"),
            ("backbones = \"\"", "expected `backbone`"),
        ] {
            let told = load(&format!("[realtime]\n{wrong}\n")).unwrap_err();
            assert!(told.contains("line 2") && told.contains(said), "{told}");
        }
        #[cfg(feature = "redis")]
        assert!(load("[realtime]\nbackbone = \"redis://h?x=1\"\n").is_err());
    }
}
