//! Amounts of money: exact, and each in its currency.

use std::borrow::Cow;
use std::fmt;

use rust_decimal::Decimal;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use trunkline::{Error, Result};

/// What an amount is counted in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Currency {
    /// US dollars: cents.
    Usd,
    /// Digital dollars: six decimals.
    Usdc,
    /// Bitcoin: satoshis.
    Btc,
    /// Ether: gwei, nine decimals.
    Eth,
    /// Sol: lamports, nine decimals.
    Sol,
}

impl Currency {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Usd, Self::Usdc, Self::Btc, Self::Eth, Self::Sol];

    /// Its code: `USD`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Usd => "USD",
            Self::Usdc => "USDC",
            Self::Btc => "BTC",
            Self::Eth => "ETH",
            Self::Sol => "SOL",
        }
    }

    /// How many decimals it has.
    pub fn decimals(self) -> u32 {
        match self {
            Self::Usd => 2,
            Self::Usdc => 6,
            Self::Btc => 8,
            Self::Eth | Self::Sol => 9,
        }
    }

    /// The currency of this code.
    ///
    /// # Errors
    /// `InvalidInput` with code `currency_unknown`, naming those that are known.
    pub fn of(code: &str) -> Result<Self> {
        let found = Self::ALL
            .into_iter()
            .find(|currency| currency.code() == code);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::code).join(", ");
            Error::invalid("currency_unknown", format!("expected one of {known}"))
                .with("found", code)
        })
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount of one currency, exact to its last decimal. It may be negative in a ledger, never in a request.
///
/// # Shape
/// In JSON `{"amount": "12.50", "currency": "USD"}`: the amount is text, so that no reader makes a float of it. It has at most
/// the currency's decimals, and less than 2^63 of its smallest units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Amount {
    minor: i64,
    currency: Currency,
}

impl Amount {
    /// So many of the currency's smallest units.
    pub fn of_minor(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// What `text` says, such as `12.50`.
    ///
    /// # Errors
    /// `InvalidInput` with code `amount_invalid` for what is no number, has more decimals than the currency, or is out of range.
    pub fn parse(text: &str, currency: Currency) -> Result<Self> {
        let wrong = |why: &str| {
            let expected = format!(
                "expected an amount of {currency} with at most {} decimals, such as 12.5: {why}",
                currency.decimals()
            );
            Error::invalid("amount_invalid", expected)
                .with("found", text.chars().take(40).collect::<String>())
        };
        let value = Decimal::from_str_exact(text).map_err(|error| wrong(&error.to_string()))?;
        let value = value.normalize();
        if value.scale() > currency.decimals() {
            return Err(wrong("there are more"));
        }
        let factor = Decimal::from(10_i64.pow(currency.decimals()));
        let minor = value
            .checked_mul(factor)
            .and_then(|minor| i64::try_from(minor).ok());
        let minor = minor.filter(|minor| *minor != i64::MIN);
        let minor = minor.ok_or_else(|| wrong("it is too large"))?;
        Ok(Self { minor, currency })
    }

    /// How many of its smallest units.
    pub fn minor(self) -> i64 {
        self.minor
    }

    /// What it is counted in.
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// The same, taken away.
    #[must_use]
    pub fn negated(self) -> Self {
        Self {
            minor: -self.minor,
            ..self
        }
    }

    /// The amount, if it is more than nothing.
    ///
    /// # Errors
    /// `InvalidInput` with code `amount_not_positive`.
    pub fn positive(self) -> Result<Self> {
        if self.minor > 0 {
            return Ok(self);
        }
        Err(
            Error::invalid("amount_not_positive", "an amount must be more than nothing")
                .with("found", self),
        )
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = Decimal::new(self.minor, self.currency.decimals());
        write!(f, "{value} {}", self.currency)
    }
}

/// How an amount is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    amount: String,
    currency: Currency,
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = Written {
            amount: Decimal::new(self.minor, self.currency.decimals()).to_string(),
            currency: self.currency,
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        Self::parse(&written.amount, written.currency).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let currency = generator.subschema_for::<Currency>();
        json_schema!({
            "type": "object",
            "description": "An exact amount of one currency.",
            "properties": {
                "amount": { "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?$" },
                "currency": currency,
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
    fn amounts_are_exact_in_their_currency() {
        for (text, currency, minor) in [
            ("12.50", Currency::Usd, 1_250),
            ("12.5", Currency::Usd, 1_250),
            ("0.000000001", Currency::Eth, 1),
            ("-3", Currency::Btc, -300_000_000),
            ("12.500", Currency::Usd, 1_250),
        ] {
            let amount = Amount::parse(text, currency).unwrap();
            assert_eq!(amount.minor(), minor, "{text}");
            let json = serde_json::to_string(&amount).unwrap();
            assert_eq!(serde_json::from_str::<Amount>(&json).unwrap(), amount);
        }
        assert_eq!(
            Amount::of_minor(1_250, Currency::Usd).to_string(),
            "12.50 USD"
        );
    }

    #[test]
    fn what_is_no_amount_is_refused_with_what_was_expected() {
        let beyond = "9".repeat(30);
        for (text, currency) in [
            ("", Currency::Usd),
            ("12,50", Currency::Usd),
            ("1e3", Currency::Usd),
            ("0.001", Currency::Usd),
            ("NaN", Currency::Usd),
            ("92233720368547758.08", Currency::Usd),
            (&beyond, Currency::Btc),
        ] {
            let error = Amount::parse(text, currency).unwrap_err();
            assert_eq!(error.code(), "amount_invalid", "{text}");
            assert!(error.message().contains("decimals"), "{text}: {error}");
        }
        for json in [
            r#"{"amount": 12.5, "currency": "USD"}"#,
            r#"{"amount": "1", "currency": "EUR"}"#,
            r#"{"amount": "1"}"#,
            r#"{"amount": "1", "currency": "USD", "more": 1}"#,
        ] {
            assert!(serde_json::from_str::<Amount>(json).is_err(), "{json}");
        }
    }
}
