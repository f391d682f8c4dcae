//! Amounts of money.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{Error, Result};

/// An amount of money in one currency, never negative.
///
/// # Shape
/// Inside: minor units (cents) up to [`Money::MAX`]. In JSON: a number with two decimals, such as
/// `29.99`. Up to `MAX` every JSON reader keeps each cent apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// A trillion, less one cent.
    pub const MAX: Self = Self(99_999_999_999_999);

    /// An amount of minor units.
    ///
    /// # Errors
    /// `InvalidInput` with code `amount_out_of_range` when it is negative or above [`Money::MAX`].
    pub fn from_minor(minor: i64) -> Result<Self> {
        if (0..=Self::MAX.0).contains(&minor) {
            Ok(Self(minor))
        } else {
            Err(out_of_range())
        }
    }

    /// The amount in minor units.
    pub fn minor(self) -> i64 {
        self.0
    }

    /// The sum.
    ///
    /// # Errors
    /// As [`Money::from_minor`].
    pub fn plus(self, other: Self) -> Result<Self> {
        self.0
            .checked_add(other.0)
            .ok_or_else(out_of_range)
            .and_then(Self::from_minor)
    }

    /// The price of `quantity` pieces.
    ///
    /// # Errors
    /// As [`Money::from_minor`].
    pub fn times(self, quantity: u32) -> Result<Self> {
        self.0
            .checked_mul(quantity.into())
            .ok_or_else(out_of_range)
            .and_then(Self::from_minor)
    }

    /// The sum of many.
    ///
    /// # Errors
    /// As [`Money::from_minor`].
    pub fn sum(amounts: impl IntoIterator<Item = Result<Self>>) -> Result<Self> {
        amounts
            .into_iter()
            .try_fold(Self::ZERO, |total, amount| total.plus(amount?))
    }
}

fn out_of_range() -> Error {
    Error::invalid(
        "amount_out_of_range",
        format!(
            "an amount of money must lie between 0.00 and {}",
            Money::MAX
        ),
    )
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A float would write 60.00 as 60.0.
        let number = RawValue::from_string(self.to_string()).map_err(serde::ser::Error::custom)?;
        number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_f64(MoneyVisitor)
    }
}

struct MoneyVisitor;

impl Visitor<'_> for MoneyVisitor {
    type Value = Money;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an amount of money between 0.00 and {} with at most two decimals",
            Money::MAX
        )
    }

    fn visit_u64<E: serde::de::Error>(self, units: u64) -> Result<Money, E> {
        i64::try_from(units)
            .ok()
            .and_then(|units| units.checked_mul(100))
            .and_then(|minor| Money::from_minor(minor).ok())
            .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(units), &self))
    }

    fn visit_i64<E: serde::de::Error>(self, units: i64) -> Result<Money, E> {
        match u64::try_from(units) {
            Ok(units) => self.visit_u64(units),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(units), &self)),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, amount: f64) -> Result<Money, E> {
        let minor = (amount * 100.0).round();
        // At the largest amount a float is off by less than a hundredth of a cent.
        let whole_cents = (amount * 100.0 - minor).abs() < 0.01;
        if !whole_cents || !(0.0..1e14).contains(&minor) {
            return Err(E::invalid_value(Unexpected::Float(amount), &self));
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a whole number below 10^14"
        )]
        let minor = minor as i64;
        Ok(Money(minor))
    }
}

impl JsonSchema for Money {
    fn schema_name() -> Cow<'static, str> {
        "Money".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "number",
            "description": "An amount of money with two decimals.",
            "minimum": 0,
            "maximum": 999_999_999_999.99
        })
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
