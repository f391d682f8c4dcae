//! Campaigns, and the prices that they make.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Cx, Error, Json, Money, NoContent, Path, Result};

use super::{NAME, tables};
use crate::order::{NewItem, OrderLine};
use crate::{STAFF, limits, product};

/// A campaign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Campaign {
    /// Its id.
    pub campaign_id: String,
    /// What it says.
    #[serde(flatten)]
    pub campaign: NewCampaign,
}

/// What a campaign says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewCampaign {
    /// Its name.
    pub name: String,
    /// The shop that it is for; every shop if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shop_id: Option<String>,
    /// The product that it is for; every product if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_id: Option<String>,
    /// How much less things cost.
    #[schemars(range(min = 1, max = 100))]
    pub percent_off: u8,
    /// When it begins, in Unix seconds.
    pub begins_at: i64,
    /// When it ends, in Unix seconds.
    pub ends_at: i64,
}

/// What an order wants, to be told what it costs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prices {
    /// The shop.
    pub shop_id: String,
    /// What.
    pub items: Vec<NewItem>,
}

pub(super) async fn list(cx: Cx) -> Result<Json<Vec<Campaign>>> {
    let mut reader = cx.read().await?;
    Ok(Json(tables::all(reader.conn()).await?))
}

pub(super) async fn save(
    cx: Cx,
    Path(campaign_id): Path<String>,
    Json(campaign): Json<NewCampaign>,
) -> Result<Json<Campaign>> {
    cx.require_role(STAFF)?;
    limits::id("campaignId", &campaign_id)?;
    limits::name(&campaign.name)?;
    let is_sound =
        (1..=100).contains(&campaign.percent_off) && campaign.begins_at < campaign.ends_at;
    if !is_sound {
        let text = "a campaign takes 1 to 100 percent off, and ends after it begins";
        return Err(Error::invalid("campaign_invalid", text));
    }
    let campaign = Campaign {
        campaign_id,
        campaign,
    };
    let mut tx = cx.tx().await?;
    tables::save(tx.conn(), &campaign).await?;
    Ok(Json(campaign))
}

pub(super) async fn end(cx: Cx, Path(campaign_id): Path<String>) -> Result<NoContent> {
    cx.require_role(STAFF)?;
    let mut tx = cx.tx().await?;
    match tables::delete(tx.conn(), &campaign_id).await? {
        true => Ok(NoContent),
        false => Err(limits::unknown("campaign", &campaign_id)),
    }
}

/// The best price of each thing now: the campaign that takes most off it counts, and no other.
pub(super) async fn price(cx: Cx, Json(wanted): Json<Prices>) -> Result<Json<Vec<OrderLine>>> {
    limits::lines(wanted.items.len())?;
    let ids: Vec<&str> = wanted.items.iter().map(|item| &*item.product_id).collect();
    let products = product::find_all(&cx, &ids).await?;
    let mut reader = cx.read().await?;
    let running = tables::running(reader.conn(), &wanted.shop_id, cx.now()).await?;
    let lines = wanted.items.iter().zip(products).map(|(item, product)| {
        let applies = |campaign: &&NewCampaign| {
            campaign
                .product_id
                .as_ref()
                .is_none_or(|id| *id == product.product_id)
        };
        let best = running
            .iter()
            .filter(applies)
            .map(|campaign| campaign.percent_off)
            .max();
        Ok(OrderLine {
            price: less(product.price, best.unwrap_or(0))?,
            product_id: product.product_id,
            name: product.name,
            quantity: item.quantity,
        })
    });
    lines.collect::<Result<_>>().map(Json)
}

/// A price with so many percent off, to the nearest cent; half a cent goes to the shop.
fn less(price: Money, percent: u8) -> Result<Money> {
    let left = i64::from(100_u8.saturating_sub(percent));
    Money::from_minor((price.minor().saturating_mul(left) + 50) / 100)
}

/// Asks campaign-service what things cost now, on behalf of a service that may; as many as items, in their order.
///
/// # Errors
/// `NotFound` with code `product_unknown`.
pub(crate) async fn prices(cx: &Cx, shop_id: &str, items: &[NewItem]) -> Result<Vec<OrderLine>> {
    let wanted = Prices {
        shop_id: shop_id.to_owned(),
        items: items.to_vec(),
    };
    let lines: Vec<OrderLine> = cx
        .service(NAME)?
        .post("/internal/prices")
        .json(&wanted)
        .send()
        .await?;
    if lines.len() == items.len() {
        return Ok(lines);
    }
    Err(Error::internal("expected as many prices as items"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_taken_off_to_the_nearest_cent() {
        let less = |minor, percent| {
            less(Money::from_minor(minor).unwrap(), percent)
                .unwrap()
                .minor()
        };
        assert_eq!(less(2_500, 20), 2_000);
        assert_eq!(less(199, 10), 179);
        assert_eq!(less(199, 50), 100, "half a cent goes to the shop");
        assert_eq!(less(Money::MAX.minor(), 0), Money::MAX.minor());
        assert_eq!(less(1, 100), 0);
    }
}
