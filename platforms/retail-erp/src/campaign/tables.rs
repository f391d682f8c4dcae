//! Campaigns.

use trunkline::{Conn, Result, Timestamp, sql};

use super::http::{Campaign, NewCampaign};
use crate::limits;

type Row = (
    String,
    String,
    Option<String>,
    Option<String>,
    i64,
    i64,
    i64,
);

fn read(row: Row) -> Campaign {
    let (campaign_id, name, shop_id, product_id, percent_off, begins_at, ends_at) = row;
    let campaign = NewCampaign {
        name,
        shop_id,
        product_id,
        percent_off: u8::try_from(percent_off).unwrap_or_default(),
        begins_at,
        ends_at,
    };
    Campaign {
        campaign_id,
        campaign,
    }
}

pub(super) async fn all(conn: &mut Conn) -> Result<Vec<Campaign>> {
    let text = "SELECT campaign_id, name, shop_id, product_id, percent_off, begins_at, ends_at \
                FROM campaigns ORDER BY begins_at, campaign_id LIMIT $1";
    let rows = sql(text).bind(limits::PAGE_MAX).all::<Row>(conn).await?;
    Ok(rows.into_iter().map(read).collect())
}

/// What runs in a shop at a time.
pub(super) async fn running(
    conn: &mut Conn,
    shop_id: &str,
    at: Timestamp,
) -> Result<Vec<NewCampaign>> {
    let text = "SELECT campaign_id, name, shop_id, product_id, percent_off, begins_at, ends_at \
                FROM campaigns WHERE (shop_id IS NULL OR shop_id = $1) \
                AND begins_at <= $2 AND ends_at > $2 ORDER BY percent_off DESC LIMIT $3";
    let rows = sql(text)
        .bind(shop_id)
        .bind(at.as_second())
        .bind(limits::PAGE_MAX)
        .all::<Row>(conn)
        .await?;
    Ok(rows.into_iter().map(|row| read(row).campaign).collect())
}

pub(super) async fn save(conn: &mut Conn, campaign: &Campaign) -> Result<()> {
    let text = "INSERT INTO campaigns (campaign_id, name, shop_id, product_id, percent_off, \
                begins_at, ends_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
                ON CONFLICT (campaign_id) DO UPDATE SET name = excluded.name, \
                shop_id = excluded.shop_id, product_id = excluded.product_id, \
                percent_off = excluded.percent_off, begins_at = excluded.begins_at, \
                ends_at = excluded.ends_at";
    let Campaign {
        campaign_id,
        campaign,
    } = campaign;
    sql(text)
        .bind(campaign_id)
        .bind(&campaign.name)
        .bind(&campaign.shop_id)
        .bind(&campaign.product_id)
        .bind(u32::from(campaign.percent_off))
        .bind(campaign.begins_at)
        .bind(campaign.ends_at)
        .run(conn)
        .await?;
    Ok(())
}

pub(super) async fn delete(conn: &mut Conn, campaign_id: &str) -> Result<bool> {
    let text = "DELETE FROM campaigns WHERE campaign_id = $1";
    Ok(sql(text).bind(campaign_id).run(conn).await? == 1)
}
