//! How a log is kept.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use trunkline_core::{Error, Result};

/// When a publish counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After `fdatasync`: it survives a loss of power.
    #[default]
    Always,
    /// After the write; synced within this time. A loss of power loses at most that much.
    Interval(Duration),
    /// After the write; the operating system syncs when it likes. It survives the death of the
    /// process, not that of the machine.
    Os,
}

/// What [`Log::open`](crate::Log::open) does with corruption that is not a torn tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Repair {
    /// It fails with `Corrupt` and names the file and the place.
    #[default]
    Refuse,
    /// It moves what can't be read, and all that follows in that file, to a file ending in
    /// `.quarantine`, and goes on with the rest. What was lost is told by
    /// [`Log::recovery`](crate::Log::recovery).
    Quarantine,
}

/// How a log is kept; [`LogConfig::new`] has the defaults, fields are set one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogConfig {
    /// The folder; made if it is missing. One process at a time.
    pub dir: PathBuf,
    /// When a publish counts as done. `Always` by default.
    pub durability: Durability,
    /// The largest size of a segment file, from 64 KiB to 2 GiB; the first ones are smaller, and they
    /// grow with the traffic. 256 MiB by default.
    pub segment_bytes_max: usize,
    /// How much of the newest events is kept in memory. 16 MiB by default.
    pub tail_bytes_max: usize,
    /// The largest event in its encoded form; a larger one is refused as `TooLarge`. 8 MiB by default.
    pub event_bytes_max: usize,
    /// How much may wait for the disk; beyond it, publishers wait. 8 MiB by default.
    pub pending_bytes_max: usize,
    /// How long a group's new position may wait for an append to ride on before it is written alone.
    /// 5 ms by default.
    pub position_delay: Duration,
    /// Reads every segment when opening, instead of trusting the sealed ones until they are read. Off by
    /// default: a damaged event is then found when it is read.
    pub verify_on_open: bool,
    /// What to do with corruption in the middle. `Refuse` by default.
    pub repair: Repair,
}

const MIB: usize = 1 << 20;

impl LogConfig {
    /// A log in `dir` with the defaults.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            durability: Durability::default(),
            segment_bytes_max: 256 * MIB,
            tail_bytes_max: 16 * MIB,
            event_bytes_max: 8 * MIB,
            pending_bytes_max: 8 * MIB,
            position_delay: Duration::from_millis(5),
            verify_on_open: false,
            repair: Repair::default(),
        }
    }

    /// Reads a URL such as `log:data/bus?durability=always`.
    ///
    /// # Shape
    /// `log:` and a path, then `durability=always|os|interval`, `interval_ms=` (50 unless given),
    /// `segment_mib=`, `tail_mib=`, `repair=refuse|quarantine`.
    ///
    /// # Errors
    /// `InvalidInput` that names the parameter and what was expected.
    pub fn from_url(url: &str) -> Result<Self> {
        let rest = url
            .strip_prefix("log:")
            .ok_or_else(|| invalid("expected log: and a folder, such as log:data/bus", url))?;
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if path.is_empty() {
            return Err(invalid("expected a folder after log:", url));
        }
        let mut config = Self::new(path);
        let mut interval = Duration::from_millis(50);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (name, value) {
                ("durability", "always") => config.durability = Durability::Always,
                ("durability", "os") => config.durability = Durability::Os,
                ("durability", "interval") => config.durability = Durability::Interval(interval),
                ("durability", _) => {
                    return Err(invalid("expected durability=always, interval or os", pair));
                }
                ("interval_ms", _) => interval = Duration::from_millis(number(pair, value, 1)?),
                ("segment_mib", _) => config.segment_bytes_max = mebibytes(pair, value, 2048)?,
                ("tail_mib", _) => config.tail_bytes_max = mebibytes(pair, value, 1 << 20)?,
                ("repair", "refuse") => config.repair = Repair::Refuse,
                ("repair", "quarantine") => config.repair = Repair::Quarantine,
                ("repair", _) => {
                    return Err(invalid("expected repair=refuse or quarantine", pair));
                }
                _ => {
                    let expected =
                        "expected one of durability, interval_ms, segment_mib, tail_mib, repair";
                    return Err(invalid(expected, pair));
                }
            }
        }
        if let Durability::Interval(every) = &mut config.durability {
            *every = interval;
        }
        Ok(config)
    }

    /// The bounds that the format sets.
    pub(crate) fn check(&self) -> Result<()> {
        let range = 64 * 1024..=2048 * MIB;
        if !range.contains(&self.segment_bytes_max) {
            return Err(invalid(
                "expected segment_bytes_max from 64 KiB to 2 GiB",
                &self.segment_bytes_max.to_string(),
            ));
        }
        let range = 1024..=256 * MIB;
        if !range.contains(&self.event_bytes_max) || !range.contains(&self.pending_bytes_max) {
            return Err(invalid(
                "expected event_bytes_max and pending_bytes_max from 1 KiB to 256 MiB",
                &self.event_bytes_max.to_string(),
            ));
        }
        Ok(())
    }
}

impl FromStr for LogConfig {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        Self::from_url(url)
    }
}

fn mebibytes(pair: &str, value: &str, max: u64) -> Result<usize> {
    let count = number(pair, value, 1)?;
    if count > max {
        return Err(invalid("the number is too large", pair));
    }
    usize::try_from(count << 20).map_err(|_| invalid("the number is too large", pair))
}

fn number(pair: &str, value: &str, min: u64) -> Result<u64> {
    match value.parse::<u64>() {
        Ok(number) if number >= min => Ok(number),
        _ => Err(invalid("expected a positive whole number", pair)),
    }
}

fn invalid(expected: &'static str, found: &str) -> Error {
    Error::invalid("log_config_invalid", expected).with("found", found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_sets_what_it_names() {
        let config =
            LogConfig::from_url("log:data/bus?durability=interval&interval_ms=20&tail_mib=1")
                .unwrap();
        assert_eq!(config.dir, PathBuf::from("data/bus"));
        assert_eq!(
            config.durability,
            Durability::Interval(Duration::from_millis(20))
        );
        assert_eq!(config.tail_bytes_max, MIB);
        assert_eq!(
            LogConfig::from_url("log:/var/bus").unwrap(),
            LogConfig::new("/var/bus")
        );
    }

    #[test]
    fn a_wrong_url_names_the_mistake() {
        for (url, found) in [
            ("redis://x", "redis://x"),
            ("log:", "log:"),
            ("log:d?durability=never", "durability=never"),
            ("log:d?segment_mib=0", "segment_mib=0"),
            (
                "log:d?segment_mib=99999999999999",
                "segment_mib=99999999999999",
            ),
            ("log:d?colour=red", "colour=red"),
        ] {
            let error = LogConfig::from_url(url).unwrap_err();
            assert!(error.to_string().contains(found), "{url}: {error}");
        }
    }
}
