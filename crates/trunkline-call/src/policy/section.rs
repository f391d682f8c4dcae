//! What declarations and the configuration say of calls.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, de};

use super::{BreakerPolicy, BudgetPolicy, BulkheadPolicy, OperationName, Policy, TargetPolicy};

/// The name that stands for every target.
const EVERY: &str = "*";

/// What is said of one operation, or of all of a target; what is left out is said elsewhere. Times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Operation {
    /// See [`Policy::timeout`].
    pub timeout_ms: Option<u64>,
    /// See [`Policy::idempotent`].
    pub idempotent: Option<bool>,
    /// See [`Policy::attempts_max`].
    pub attempts_max: Option<u32>,
    /// See [`Policy::retry_initial`].
    pub retry_initial_ms: Option<u64>,
    /// See [`Policy::retry_max`].
    pub retry_max_ms: Option<u64>,
    /// See [`Policy::hedge_after`].
    pub hedge_after_ms: Option<u64>,
    /// See [`Policy::cache`].
    pub cache: Option<bool>,
    /// See [`Policy::fallback_age_max`].
    pub fallback_age_max_ms: Option<u64>,
    /// See [`Policy::coalesce`].
    pub coalesce: Option<bool>,
    /// Of a target alone: see [`BudgetPolicy`].
    budget: Option<BudgetSection>,
    /// Of a target alone: see [`BreakerPolicy`].
    breaker: Option<BreakerSection>,
    /// Of a target alone: see [`BulkheadPolicy`].
    bulkhead: Option<BulkheadSection>,
    /// Of a target alone: see [`TargetPolicy::cache_bytes_max`].
    cache_bytes_max: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BudgetSection {
    percent: Option<u32>,
    per_second: Option<u32>,
    saved_max: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BreakerSection {
    failures_max: Option<u32>,
    reset_ms: Option<u64>,
    rate_percent: Option<u32>,
    window_ms: Option<u64>,
    calls_min: Option<u32>,
    rate_reset_ms: Option<u64>,
    probes: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BulkheadSection {
    in_flight_max: Option<usize>,
    waiting_max: Option<usize>,
}

impl Operation {
    /// Says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a call may take.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout_ms = Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Repeating a call is safe.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = Some(true);
        self
    }

    /// A call is tried once.
    #[must_use]
    pub fn no_retry(mut self) -> Self {
        self.attempts_max = Some(1);
        self
    }

    /// A call is asked a second time beside the first if it is late.
    #[must_use]
    pub fn hedge_after(mut self, late: Duration) -> Self {
        self.hedge_after_ms = Some(u64::try_from(late.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// How old an answer may be that is given when the target fails.
    #[must_use]
    pub fn fallback_age_max(mut self, age: Duration) -> Self {
        self.fallback_age_max_ms = Some(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        self
    }

    fn apply(&self, policy: &mut Policy) {
        let millis = |value: Option<u64>, of: &mut Duration| {
            *of = value.map_or(*of, Duration::from_millis);
        };
        millis(self.timeout_ms, &mut policy.timeout);
        millis(self.retry_initial_ms, &mut policy.retry_initial);
        millis(self.retry_max_ms, &mut policy.retry_max);
        millis(self.fallback_age_max_ms, &mut policy.fallback_age_max);
        policy.idempotent = self.idempotent.or(policy.idempotent);
        policy.attempts_max = self.attempts_max.unwrap_or(policy.attempts_max);
        policy.cache = self.cache.unwrap_or(policy.cache);
        policy.coalesce = self.coalesce.unwrap_or(policy.coalesce);
        if let Some(late) = self.hedge_after_ms {
            policy.hedge_after = Some(Duration::from_millis(late));
        }
    }

    fn apply_to_target(&self, target: &mut TargetPolicy) {
        self.apply(&mut target.calls);
        target.cache_bytes_max = self.cache_bytes_max.unwrap_or(target.cache_bytes_max);
        if let Some(said) = self.budget {
            let of: &mut BudgetPolicy = &mut target.budget;
            of.percent = said.percent.unwrap_or(of.percent);
            of.per_second = said.per_second.unwrap_or(of.per_second);
            of.saved_max = said.saved_max.unwrap_or(of.saved_max);
        }
        if let Some(said) = self.breaker {
            let of: &mut BreakerPolicy = &mut target.breaker;
            of.failures_max = said.failures_max.unwrap_or(of.failures_max);
            of.rate_percent = said.rate_percent.unwrap_or(of.rate_percent);
            of.calls_min = said.calls_min.unwrap_or(of.calls_min);
            of.probes = said.probes.unwrap_or(of.probes);
            of.reset = said.reset_ms.map_or(of.reset, Duration::from_millis);
            of.rate_reset = said
                .rate_reset_ms
                .map_or(of.rate_reset, Duration::from_millis);
            of.window = said.window_ms.map_or(of.window, Duration::from_millis);
        }
        if let Some(said) = self.bulkhead {
            let of: &mut BulkheadPolicy = &mut target.bulkhead;
            of.in_flight_max = said.in_flight_max.unwrap_or(of.in_flight_max);
            of.waiting_max = said.waiting_max.unwrap_or(of.waiting_max);
        }
    }

    fn is_of_target_alone(&self) -> bool {
        let has_shared = self.budget.is_some() || self.breaker.is_some();
        has_shared || self.bulkhead.is_some() || self.cache_bytes_max.is_some()
    }

    /// What is out of its bounds.
    fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: Option<u64>, from: u64, to: u64| match value {
            Some(value) if !(from..=to).contains(&value) => Err(format!(
                "expected `{name}` from {from} to {to}, found {value}"
            )),
            _ => Ok(()),
        };
        let many = |value: Option<u32>| value.map(u64::from);
        let size = |value: Option<usize>| value.map(|value| value as u64);
        within("timeout_ms", self.timeout_ms, 1, DAY_MS)?;
        within("attempts_max", many(self.attempts_max), 1, 10)?;
        within("retry_initial_ms", self.retry_initial_ms, 1, HOUR_MS)?;
        within("retry_max_ms", self.retry_max_ms, 1, HOUR_MS)?;
        within("hedge_after_ms", self.hedge_after_ms, 1, HOUR_MS)?;
        within(
            "fallback_age_max_ms",
            self.fallback_age_max_ms,
            0,
            30 * DAY_MS,
        )?;
        within("cache_bytes_max", size(self.cache_bytes_max), 0, 1 << 30)?;
        let budget = self.budget.unwrap_or_default();
        within("percent", many(budget.percent), 0, 100)?;
        within("per_second", many(budget.per_second), 0, 1_000_000)?;
        within("saved_max", many(budget.saved_max), 0, 1_000_000)?;
        let breaker = self.breaker.unwrap_or_default();
        within("reset_ms", breaker.reset_ms, 1, DAY_MS)?;
        within("rate_reset_ms", breaker.rate_reset_ms, 1, DAY_MS)?;
        within("rate_percent", many(breaker.rate_percent), 0, 100)?;
        within("window_ms", breaker.window_ms, 100, HOUR_MS)?;
        within("calls_min", many(breaker.calls_min), 1, 1_000_000)?;
        within("probes", many(breaker.probes), 1, 1_000)?;
        let bulkhead = self.bulkhead.unwrap_or_default();
        within("in_flight_max", size(bulkhead.in_flight_max), 1, 1_000_000)?;
        within("waiting_max", size(bulkhead.waiting_max), 0, 1_000_000)
    }
}

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// What is said of one target: of all its calls, and of its operations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    calls: Operation,
    operations: Vec<(OperationName, Operation)>,
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
                let mut operations = Vec::new();
                let rest = Rest {
                    map,
                    operations: &mut operations,
                };
                let calls = Operation::deserialize(de::value::MapAccessDeserializer::new(rest))?;
                calls.check().map_err(A::Error::custom)?;
                Ok(Target { calls, operations })
            }
        }
        from.deserialize_map(Whole)
    }
}

/// The keys of a target's table that are none of its operations; those are taken out on the way.
struct Rest<'a, A> {
    map: A,
    operations: &'a mut Vec<(OperationName, Operation)>,
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
