//! Points: what players play for.

use std::borrow::Cow;
use std::fmt;

use rust_decimal::Decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use trunkline::{Error, Result};

/// The code of the currency.
pub const CURRENCY: &str = "PTS";
const DECIMALS: u32 = 2;
const MINOR_PER_POINT: i64 = 100;

/// An exact amount of points. It may be negative in a ledger, never in a request.
///
/// # Shape
/// In JSON `{"amount": "25", "currency": "PTS"}`: the amount is text, so that no reader makes a float of it. It has at most two
/// decimals, and less than 2^63 hundredths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Points {
    minor: i64,
}

impl Points {
    /// So many hundredths.
    pub const fn of_minor(minor: i64) -> Self {
        Self { minor }
    }

    /// So many whole points.
    pub const fn whole(points: i32) -> Self {
        Self::of_minor(points as i64 * MINOR_PER_POINT)
    }

    /// What `text` says, such as `12.50`.
    ///
    /// # Errors
    /// `InvalidInput` with code `amount_invalid` for what is no number, has more than two decimals, or is out of range.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            let expected =
                format!("expected points with at most {DECIMALS} decimals, such as 12.5: {why}");
            Error::invalid("amount_invalid", expected)
                .with("found", text.chars().take(40).collect::<String>())
        };
        let value = Decimal::from_str_exact(text).map_err(|error| wrong(&error.to_string()))?;
        let value = value.normalize();
        if value.scale() > DECIMALS {
            return Err(wrong("there are more"));
        }
        let minor = value.checked_mul(Decimal::from(MINOR_PER_POINT));
        let minor = minor.and_then(|minor| i64::try_from(minor).ok());
        let minor = minor.filter(|minor| *minor != i64::MIN);
        minor
            .map(Self::of_minor)
            .ok_or_else(|| wrong("it is too large"))
    }

    /// How many hundredths.
    pub fn minor(self) -> i64 {
        self.minor
    }

    /// The same, taken away.
    #[must_use]
    pub fn negated(self) -> Self {
        Self { minor: -self.minor }
    }
}

impl fmt::Display for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Decimal::new(self.minor, DECIMALS).normalize())
    }
}

/// How points are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    amount: String,
    currency: String,
}

impl Serialize for Points {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = Written {
            amount: self.to_string(),
            currency: CURRENCY.to_owned(),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Points {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        if written.currency != CURRENCY {
            let expected = format!("expected the currency {CURRENCY}");
            return Err(serde::de::Error::custom(expected));
        }
        Self::parse(&written.amount).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Points {
    fn schema_name() -> Cow<'static, str> {
        "Points".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "An exact amount of points.",
            "properties": {
                "amount": { "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?$" },
                "currency": { "type": "string", "const": CURRENCY },
            },
            "required": ["amount", "currency"],
            "additionalProperties": false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_exact() {
        for (text, minor, shown) in [
            ("12.50", 1_250, "12.5"),
            ("25", 2_500, "25"),
            ("100", 10_000, "100"),
            ("0.01", 1, "0.01"),
            ("-3", -300, "-3"),
        ] {
            let points = Points::parse(text).unwrap();
            assert_eq!((points.minor(), &*points.to_string()), (minor, shown));
            let json = serde_json::to_string(&points).unwrap();
            assert_eq!(serde_json::from_str::<Points>(&json).unwrap(), points);
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "12,50", "1e3", "0.001", "NaN", "92233720368547758.08"] {
            assert_eq!(
                Points::parse(text).unwrap_err().code(),
                "amount_invalid",
                "{text}"
            );
        }
        for json in [
            r#"{"amount": 12.5, "currency": "PTS"}"#,
            r#"{"amount": "1", "currency": "EUR"}"#,
            r#"{"amount": "1"}"#,
        ] {
            assert!(serde_json::from_str::<Points>(json).is_err(), "{json}");
        }
    }
}
