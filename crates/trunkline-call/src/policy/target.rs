//! What declarations and the configuration say of a target, and of all.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, de};
use trunkline_core::Error;

use super::{Operation, OperationName, TargetPolicy, service_config};

/// The name that stands for every target.
const EVERY: &str = "*";
/// A longer file is none that somebody wrote for this.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// What is said of one target: of all its calls, and of its operations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    pub(super) calls: Operation,
    pub(super) operations: Vec<(OperationName, Operation)>,
    /// A file of gRPC's own form that says the rest.
    service_config: Option<PathBuf>,
}

impl Target {
    /// Says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says something of one operation.
    #[must_use]
    pub fn operation(mut self, name: OperationName, said: Operation) -> Self {
        self.operations.push((name, said));
        self
    }

    /// Says something of all its calls.
    #[must_use]
    pub fn calls(self, calls: Operation) -> Self {
        Self { calls, ..self }
    }

    /// Adds what is said elsewhere; what is said here counts before it.
    fn add(&mut self, other: Self) {
        self.calls.budget = self.calls.budget.or(other.calls.budget);
        // Of one operation, what is said later counts.
        self.operations.splice(0..0, other.operations);
    }
}

/// The text of a file that is not too long.
fn read(path: &Path) -> trunkline_core::Result<String> {
    let unreadable = |error: std::io::Error| {
        let text = "the file of `service_config` can't be read";
        Error::invalid("config_invalid", text).with_source(error)
    };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    let mut start = file.take(FILE_BYTES_MAX + 1);
    start.read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let text = format!("expected a file of at most {FILE_BYTES_MAX} bytes");
        return Err(Error::invalid("config_invalid", text));
    }
    Ok(text)
}

/// Policies for targets by their names; `*` is said of every target.
///
/// # Shape
/// A table for each target, as `[call.NAME]` in a platform's configuration; in it a table for each operation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policies {
    declared: BTreeMap<String, Target>,
    configured: BTreeMap<String, Target>,
}

impl Policies {
    /// Adds what a target declares of itself: it counts where the configuration says nothing of the same.
    #[must_use]
    pub fn declare(mut self, target: impl Into<String>, said: Target) -> Self {
        self.declared.insert(target.into(), said);
        self
    }

    /// What is declared stays, the configuration is another's.
    #[must_use]
    pub fn configured_by(&self, other: &Self) -> Self {
        Self {
            declared: self.declared.clone(),
            configured: other.configured.clone(),
        }
    }

    /// Reads the files that `service_config` names, once.
    ///
    /// # Errors
    /// `InvalidInput` for one that can't be read, or asks for what no channel does; it is named.
    pub fn read_files(&mut self) -> trunkline_core::Result<()> {
        for (name, target) in &mut self.configured {
            if let Some(path) = target.service_config.take() {
                let named = |error: Error| {
                    let error = error.with("file", path.display());
                    error.with("section", format!("call.{name}"))
                };
                let text = read(&path).map_err(named)?;
                let said = service_config::target_of(&text).map_err(named)?;
                target.add(said);
            }
        }
        Ok(())
    }

    /// The targets that the configuration speaks of.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        let names = self.configured.keys().map(String::as_str);
        names.filter(|name| *name != EVERY)
    }

    /// How a target is called.
    pub fn of(&self, target: &str) -> TargetPolicy {
        // From the general to the exact, and what is configured after what is declared.
        let said = [
            self.configured.get(EVERY),
            self.declared.get(target),
            self.configured.get(target),
        ];
        let said: Vec<&Target> = said.into_iter().flatten().collect();
        let mut policy = TargetPolicy::default();
        for target in &said {
            target.calls.apply_to_target(&mut policy);
        }
        for (name, operation) in said.iter().flat_map(|target| &target.operations) {
            let known = policy
                .operations
                .iter()
                .position(|(known, _)| known == name);
            let at = known.unwrap_or_else(|| {
                policy.operations.push((name.clone(), policy.calls));
                policy.operations.len() - 1
            });
            if let Some((_, of)) = policy.operations.get_mut(at) {
                operation.apply(of);
            }
        }
        policy.operations.sort_by_key(|(name, _)| name.order());
        policy
    }
}

impl<'de> Deserialize<'de> for Policies {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let configured = BTreeMap::deserialize(from)?;
        Ok(Self {
            declared: BTreeMap::new(),
            configured,
        })
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Whole;
        impl<'de> Visitor<'de> for Whole {
            type Value = Target;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of a target")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Target, A::Error> {
                let (mut operations, mut service_config) = (Vec::new(), None);
                let rest = Rest {
                    map,
                    operations: &mut operations,
                    service_config: &mut service_config,
                };
                let calls = Operation::deserialize(de::value::MapAccessDeserializer::new(rest))?;
                calls.check().map_err(A::Error::custom)?;
                Ok(Target {
                    calls,
                    operations,
                    service_config,
                })
            }
        }
        from.deserialize_map(Whole)
    }
}

/// The keys of a target's table that any operation has too; the others are taken out on the way.
struct Rest<'a, A> {
    map: A,
    operations: &'a mut Vec<(OperationName, Operation)>,
    service_config: &'a mut Option<PathBuf>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let mut seed = Some(seed);
        loop {
            match self.map.next_key_seed(KeyOf(&mut seed))? {
                None => return Ok(None),
                Some(Read::Key(key)) => return Ok(Some(key)),
                Some(Read::Operation(name)) => {
                    let said = self.map.next_value_seed(OperationOf)?;
                    self.operations.push((name, said));
                }
                Some(Read::ServiceConfig) => {
                    *self.service_config = Some(self.map.next_value()?);
                }
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

enum Read<K> {
    Key(K),
    Operation(OperationName),
    ServiceConfig,
}

/// Reads a key within the map's own reading, so that a mistake is told with its place.
struct KeyOf<'a, K>(&'a mut Option<K>);

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for KeyOf<'_, K> {
    type Value = Read<K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        let key = String::deserialize(from)?;
        if key.contains('/') {
            let name = key.parse().map_err(D::Error::custom)?;
            return Ok(Read::Operation(name));
        }
        if key == "service_config" {
            return Ok(Read::ServiceConfig);
        }
        let seed = self.0.take();
        let seed = seed.ok_or_else(|| D::Error::custom("a key is read once"))?;
        seed.deserialize(StrDeserializer::<D::Error>::new(&key))
            .map(Read::Key)
    }
}

struct OperationOf;

impl<'de> DeserializeSeed<'de> for OperationOf {
    type Value = Operation;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Operation, D::Error> {
        let said = Operation::deserialize(from)?;
        said.check().map_err(D::Error::custom)?;
        if said.is_of_target_alone() {
            return Err(D::Error::custom(
                "`budget`, `breaker`, `bulkhead` and `cache_bytes_max` are of the whole target: expected them in its own table",
            ));
        }
        Ok(said)
    }
}
