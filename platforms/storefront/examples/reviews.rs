//! The twelfth service of `docs/guides/first-service.md`: reviews of products. Run it with
//! `cargo run -p storefront --example reviews`; `cargo test` runs it too.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::{Created, Cx, Error, Event, Json, Migration, Path, Result, Service, sql};

/// A product was reviewed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "review.added", version = "1.0", topic = "review-events", key = product_id)]
struct ReviewAdded {
    product_id: String,
    stars: u8,
}

/// A product's reviews have a new average.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "review.rated", version = "1.0", topic = "review-events", key = product_id)]
struct ProductRated {
    product_id: String,
    average: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Review {
    stars: u8,
    text: String,
}

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_reviews",
    sql: "CREATE TABLE reviews (product_id TEXT NOT NULL, user_id TEXT NOT NULL, \
          stars BIGINT NOT NULL, words TEXT NOT NULL, PRIMARY KEY (product_id, user_id))",
}];

/// The service: one route, one call, two events, one table.
fn reviews() -> Service {
    Service::new("review-service")
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .calls("product-service")
        .publishes::<ReviewAdded>()
        .publishes::<ProductRated>()
        .post("/api/reviews/{product_id}", add)
        .on(rate)
}

async fn add(
    cx: Cx,
    Path(id): Path<String>,
    Json(review): Json<Review>,
) -> Result<Created<Review>> {
    let user = cx.user()?;
    if !(1..=5).contains(&review.stars) {
        return Err(Error::invalid("stars_invalid", "expected 1 to 5 stars"));
    }
    let product = cx
        .service("product-service")?
        .get(format!("/api/products/{id}"));
    let _: serde_json::Value = product.send().await?;
    let mut tx = cx.tx().await?;
    sql("INSERT INTO reviews (product_id, user_id, stars, words) VALUES ($1, $2, $3, $4)")
        .bind(&id)
        .bind(&user)
        .bind(u32::from(review.stars))
        .bind(&review.text)
        .run(tx.conn())
        .await?;
    tx.publish(ReviewAdded {
        product_id: id.clone(),
        stars: review.stars,
    })
    .await?;
    Ok(Created::at(format!("/api/reviews/{id}"), review))
}

async fn rate(cx: Cx, event: Event<ReviewAdded>) -> Result<()> {
    let product_id = event.data.product_id;
    let mut tx = cx.tx().await?;
    let average = "SELECT CAST(AVG(stars) AS DOUBLE PRECISION) FROM reviews WHERE product_id = $1";
    let (average,) = sql(average)
        .bind(&product_id)
        .one::<(f64,)>(tx.conn())
        .await?;
    tx.publish(ProductRated {
        product_id,
        average,
    })
    .await
}
// The service ends here.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    try_it().await
}

/// Starts the store with the service in it, writes a review, and waits for the average.
async fn try_it() -> anyhow::Result<()> {
    use anyhow::Context as _;
    use storefront::{Options, Store};
    use trunkline::{Program as _, Settings};

    let data = std::env::temp_dir().join(format!("reviews-{}", std::process::id()));
    let config = Settings::on_free_ports(&data).load()?;
    let options = Options {
        sandbox: Some(Settings::ANYWHERE),
        ..Options::default()
    };
    // The store's checked-in schemas do not know the new events; `storefront schemas --write` would add them.
    let schemas = data.join("schemas");
    let store = Store::start_platform(options, config, |platform| {
        let platform = platform.service(reviews());
        if let Err(error) = platform.write_schemas(&schemas) {
            eprintln!("{error}");
        }
        platform.schemas(schemas.clone())
    });
    let store = store.await?;
    let mut events = store.running().events();
    let network = store.running().network();
    let context = trunkline::Context::root(&trunkline::Env::system()).with_user("ann");
    let client = |service: &str| {
        trunkline::Client::new(
            network.channel("example", service.to_owned()),
            context.clone(),
        )
    };
    let products: serde_json::Value = client("product-service")
        .get("/api/products?limit=1")
        .send()
        .await?;
    let product = products
        .pointer("/items/0/id")
        .and_then(serde_json::Value::as_str)
        .context("the catalogue has a product")?;
    let review = Review {
        stars: 4,
        text: "Keeps its promise.".to_owned(),
    };
    let path = format!("/api/reviews/{product}");
    let _: Review = client("review-service")
        .post(path)
        .json(&review)
        .send()
        .await?;
    let rated = async {
        loop {
            let event = events.recv().await?;
            if &*event.event_type == "review.rated" {
                return anyhow::Ok(Event::<ProductRated>::decode(event)?.data);
            }
        }
    };
    let rated = tokio::time::timeout(std::time::Duration::from_secs(30), rated).await??;
    anyhow::ensure!(
        (rated.average - 4.0).abs() < 1e-9,
        "expected an average of 4: {rated:?}"
    );
    eprintln!(
        "reviewed {}: {} stars on average",
        rated.product_id, rated.average
    );
    store.shutdown().await;
    std::fs::remove_dir_all(&data)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test(flavor = "multi_thread")]
    async fn a_review_changes_the_average() {
        super::try_it().await.unwrap();
    }
}
