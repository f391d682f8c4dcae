//! What was counted.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Error, Json, Query, Result};

use super::tables;
use crate::{Money, limits};

/// The names of the counters.
pub(super) mod counter {
    pub(crate) const CART_PIECES: &str = "cart_pieces";
    pub(crate) const CREATED: &str = "orders_created";
    pub(crate) const PAID: &str = "orders_paid";
    pub(crate) const CONFIRMED: &str = "orders_confirmed";
    pub(crate) const FAILED: &str = "orders_failed";
    pub(crate) const REVENUE_MINOR: &str = "revenue_minor";
}

/// Who may see what all customers did together.
const ADMIN: &str = "admin";

/// Which days, and how many entries.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    /// The first day, such as `2024-01-15`; the beginning if not given.
    from: Option<String>,
    /// The last day; today if not given.
    to: Option<String>,
    /// How many entries at most.
    limit: Option<u32>,
}

impl Range {
    fn days(&self) -> Result<(String, String)> {
        let day = |given: &Option<String>, otherwise: &str| match given {
            None => Ok(otherwise.to_owned()),
            Some(day) => match day.parse::<jiff::civil::Date>() {
                Ok(day) => Ok(day.to_string()),
                Err(error) => {
                    let text = "a day is written like 2024-01-15";
                    Err(Error::invalid("day_invalid", text)
                        .with("day", day)
                        .with_source(error))
                }
            },
        };
        Ok((day(&self.from, "0001-01-01")?, day(&self.to, "9999-12-31")?))
    }
}

/// What happened on some days, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Days {
    /// The days on which anything happened.
    pub items: Vec<Day>,
}

/// What happened on one day, in UTC.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Day {
    /// Such as `2024-01-15`.
    pub day: String,
    /// Orders accepted.
    pub orders_created: u64,
    /// Orders paid and confirmed.
    pub orders_confirmed: u64,
    /// Orders that came to nothing.
    pub orders_failed: u64,
    /// What the confirmed orders cost together.
    pub revenue: Money,
}

/// How far customers came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Funnel {
    /// Pieces put into carts.
    pub cart_pieces: u64,
    /// Orders accepted.
    pub orders_created: u64,
    /// Orders paid.
    pub orders_paid: u64,
    /// Orders confirmed.
    pub orders_confirmed: u64,
}

/// The products that sold best.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sellers {
    /// The products, best first.
    pub items: Vec<Seller>,
}

/// A product that sold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Seller {
    /// The product.
    pub product_id: String,
    /// How many pieces.
    pub quantity: u64,
    /// What they cost together.
    pub revenue: Money,
}

pub(super) async fn daily(cx: Cx, Query(range): Query<Range>) -> Result<Json<Days>> {
    cx.require_role(ADMIN)?;
    let (from, to) = range.days()?;
    let limit = limits::page(range.limit)?;
    let mut reader = cx.read().await?;
    let mut days = BTreeMap::<String, Day>::new();
    for (day, name, value) in tables::counters(reader.conn(), &from, &to).await? {
        let entry = days.entry(day.clone()).or_insert_with(|| Day {
            day,
            ..Day::default()
        });
        let count = u64::try_from(value).unwrap_or_default();
        match name.as_str() {
            counter::CREATED => entry.orders_created = count,
            counter::CONFIRMED => entry.orders_confirmed = count,
            counter::FAILED => entry.orders_failed = count,
            counter::REVENUE_MINOR => entry.revenue = Money::from_minor(value)?,
            _ => {}
        }
    }
    Ok(Json(Days {
        items: days.into_values().rev().take(limit as usize).collect(),
    }))
}

pub(super) async fn funnel(cx: Cx, Query(range): Query<Range>) -> Result<Json<Funnel>> {
    cx.require_role(ADMIN)?;
    let (from, to) = range.days()?;
    let mut reader = cx.read().await?;
    let counters = tables::counters(reader.conn(), &from, &to).await?;
    let sum = |name| {
        let values = counters
            .iter()
            .filter(|counter| counter.1 == name)
            .map(|counter| counter.2);
        u64::try_from(values.sum::<i64>()).unwrap_or_default()
    };
    Ok(Json(Funnel {
        cart_pieces: sum(counter::CART_PIECES),
        orders_created: sum(counter::CREATED),
        orders_paid: sum(counter::PAID),
        orders_confirmed: sum(counter::CONFIRMED),
    }))
}

pub(super) async fn top_products(cx: Cx, Query(range): Query<Range>) -> Result<Json<Sellers>> {
    cx.require_role(ADMIN)?;
    let (from, to) = range.days()?;
    let limit = limits::page(range.limit)?;
    let mut reader = cx.read().await?;
    Ok(Json(Sellers {
        items: tables::top(reader.conn(), &from, &to, limit).await?,
    }))
}
