//! The saga of `docs/guides/sagas.md`: goods come back to the store. Run it with
//! `cargo run -p storefront --example returns`; `cargo test` runs it with every fault of the crash kit.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline::saga::Retries;
use trunkline::{
    Accepted, Cx, Error, ErrorKind, Event, Json, Migration, Path, Result, Saga, SagaDefinition,
    Service, sql,
};

/// A parcel with goods has come back.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema, Event)]
#[event(type = "parcel.returned", version = "1.0", topic = "parcel-events", key = order_id)]
struct ParcelReturned {
    order_id: String,
}

/// What a customer sends back.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Return {
    order_id: String,
    products: Vec<String>,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_returns",
    sql: "CREATE TABLE labels (order_id TEXT PRIMARY KEY, is_valid BIGINT NOT NULL); \
          CREATE TABLE shelf (order_id TEXT NOT NULL, product_id TEXT NOT NULL, \
          PRIMARY KEY (order_id, product_id)); \
          CREATE TABLE vouchers (order_id TEXT PRIMARY KEY); \
          CREATE TABLE refusals (order_id TEXT PRIMARY KEY, reason TEXT NOT NULL)",
}];

/// The service and its sagas.
fn returns() -> Service {
    Service::new("returns-service")
        .version("1.0.0")
        .migrations(MIGRATIONS)
        .publishes::<ParcelReturned>()
        .idempotent_post("/api/returns", announce)
        .get("/api/returns/{order_id}", find)
        .post("/api/returns/{order_id}/parcel", parcel_came)
        .post("/api/returns/{order_id}/inspection", inspect)
        .saga(
            SagaDefinition::named("return")
                .version(1, take_back_unseen)
                .version(2, take_back)
                .wakes(|parcel: &ParcelReturned| parcel.order_id.clone())
                .failed(refused),
        )
        .saga(SagaDefinition::named("voucher").version(1, voucher))
}

async fn announce(cx: Cx, Json(goods): Json<Return>) -> Result<Accepted<Return>> {
    cx.user()?;
    cx.start_saga("return", &goods.order_id, &goods).await?;
    let location = format!("/api/returns/{}", goods.order_id);
    Ok(Accepted::at(location, goods))
}

/// From the label to the voucher.
async fn take_back(saga: Saga, goods: Return) -> Result<usize> {
    saga.say(&"the label is printed")?;
    label(&saga, &goods).await?;
    saga.say(&"the parcel is on its way")?;
    let parcel = saga.event::<ParcelReturned>(14 * DAY).await?;
    if parcel.is_none() {
        return Err(Error::conflict("parcel_missing", "nothing came back"));
    }
    saga.say(&"somebody looks at the goods")?;
    // Whoever has not looked after three days finds them whole.
    let is_whole: Option<bool> = saga.signal("inspected", 3 * DAY).await?;
    if is_whole == Some(false) {
        return Err(Error::conflict("goods_damaged", "the goods are damaged"));
    }
    give_back(&saga, &goods).await
}

async fn give_back(saga: &Saga, goods: &Return) -> Result<usize> {
    let shelved = saga
        .all("shelve", goods.products.clone(), |branch, product| {
            shelve(branch, goods.order_id.clone(), product)
        })
        .await?;
    // The shelf is counted before money leaves.
    saga.sleep("count", Duration::from_millis(10)).await?;
    saga.child::<()>("voucher", &goods.order_id).await?;
    Ok(shelved.len())
}

/// A step with its compensation.
async fn label(saga: &Saga, goods: &Return) -> Result<()> {
    let (order_id, printed) = (goods.order_id.clone(), goods.order_id.clone());
    let (first, longest) = (Duration::from_millis(200), Duration::from_secs(5));
    saga.step("label")
        .input(goods)
        .retries(Retries::attempts(5).pauses(first, longest))
        .within(Duration::from_secs(10))
        .undo(move |cx, _| {
            let text = "UPDATE labels SET is_valid = 0 WHERE order_id = $1";
            write(cx, text, vec![printed.clone()])
        })
        .run(move |cx| {
            let text = "INSERT INTO labels (order_id, is_valid) VALUES ($1, 1) \
                        ON CONFLICT (order_id) DO UPDATE SET is_valid = 1";
            write(cx, text, vec![order_id.clone()])
        })
        .await
}

/// One of several that run side by side.
async fn shelve(branch: Saga, order_id: String, product_id: String) -> Result<()> {
    let put = vec![order_id, product_id];
    let back = put.clone();
    branch
        .step("shelve")
        .undo(move |cx, _| {
            let text = "DELETE FROM shelf WHERE order_id = $1 AND product_id = $2";
            write(cx, text, back.clone())
        })
        .run(move |cx| {
            let text = "INSERT INTO shelf (order_id, product_id) VALUES ($1, $2) \
                        ON CONFLICT DO NOTHING";
            write(cx, text, put.clone())
        })
        .await
}

/// The child: a saga of its own, which another waits for.
async fn voucher(saga: Saga, order_id: String) -> Result<()> {
    saga.step("voucher")
        .run(move |cx| {
            let text = "INSERT INTO vouchers (order_id) VALUES ($1) ON CONFLICT DO NOTHING";
            write(cx, text, vec![order_id.clone()])
        })
        .await
}

/// The first version, for returns that began with it: nobody looked at the goods.
async fn take_back_unseen(saga: Saga, goods: Return) -> Result<usize> {
    label(&saga, &goods).await?;
    let parcel = saga.event::<ParcelReturned>(14 * DAY).await?;
    parcel.ok_or_else(|| Error::conflict("parcel_missing", "nothing came back"))?;
    give_back(&saga, &goods).await
}

/// What is done last when a return has come to nothing.
async fn refused(cx: Cx, goods: Return, error: Error) -> Result<()> {
    let text = "INSERT INTO refusals (order_id, reason) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    write(cx, text, vec![goods.order_id, error.code().to_owned()]).await
}

/// How a return stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct Standing {
    /// `running`, `waiting`, `completed` and so on.
    state: String,
    labels: i64,
    shelved: i64,
    vouchers: i64,
}

async fn find(cx: Cx, Path(order_id): Path<String>) -> Result<Json<Standing>> {
    let instance = cx.saga_status("return", &order_id).await?;
    let instance = instance.ok_or_else(|| {
        Error::not_found("return_unknown", "there is no such return").with("order_id", &order_id)
    })?;
    let mut reader = cx.read().await?;
    let mut counts = [0; 3];
    for (count, text) in counts.iter_mut().zip([
        "SELECT COUNT(*) FROM labels WHERE order_id = $1 AND is_valid = 1",
        "SELECT COUNT(*) FROM shelf WHERE order_id = $1",
        "SELECT COUNT(*) FROM vouchers WHERE order_id = $1",
    ]) {
        (*count,) = sql(text)
            .bind(&order_id)
            .one::<(i64,)>(reader.conn())
            .await?;
    }
    let [labels, shelved, vouchers] = counts;
    Ok(Json(Standing {
        state: instance.state.name().to_owned(),
        labels,
        shelved,
        vouchers,
    }))
}

/// The carrier says so.
async fn parcel_came(cx: Cx, Path(order_id): Path<String>) -> Result<Json<()>> {
    cx.publish(ParcelReturned { order_id }).await.map(Json)
}

/// Somebody has looked at the goods.
async fn inspect(
    cx: Cx,
    Path(order_id): Path<String>,
    Json(is_whole): Json<bool>,
) -> Result<Json<()>> {
    let told = cx.signal_saga(("return", &order_id), "inspected", &is_whole);
    told.await.map(Json)
}

/// Writes a row; it, the events and the end of the step commit together.
async fn write(cx: Cx, text: &'static str, values: Vec<String>) -> Result<()> {
    let mut tx = cx.tx().await?;
    let statement = values.iter().fold(sql(text), |sql, value| sql.bind(value));
    statement.run(tx.conn()).await.map(drop)
}
// The service ends here.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let place = Place::start(|platform| platform).await?;
    let ended = place.takes_back("order-1", true).await?;
    anyhow::ensure!(ended.state == "completed", "{ended:?}");
    eprintln!("taken back: {ended:?}");
    place.stop().await
}

/// The service alone, in a platform of its own.
struct Place {
    running: trunkline::Running,
    data: std::path::PathBuf,
}

impl Place {
    async fn start(
        extend: impl FnOnce(trunkline::Platform) -> trunkline::Platform,
    ) -> anyhow::Result<Self> {
        static PLACES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = PLACES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let data = std::env::temp_dir().join(format!("returns-{}-{number}", std::process::id()));
        let config = trunkline::Settings::on_free_ports(&data).load()?;
        let platform = extend(trunkline::Platform::new("returns").service(returns()));
        let running = platform.start(config).await?;
        Ok(Self { running, data })
    }

    /// Sends goods back that are whole, or are not, and waits until that has ended.
    async fn takes_back(&self, order_id: &str, is_whole: bool) -> anyhow::Result<Standing> {
        let goods = Return {
            order_id: order_id.to_owned(),
            products: vec!["tea-set".to_owned(), "kettle".to_owned()],
        };
        let path = format!("/api/returns/{order_id}");
        let announced = self.client().post("/api/returns").json(&goods);
        let _: Return = announced.idempotency_key(order_id).send().await?;
        let _: () = self.client().post(format!("{path}/parcel")).send().await?;
        let inspected = self.client().post(format!("{path}/inspection"));
        match inspected.json(&is_whole).send::<()>().await {
            // It has failed before anybody could look.
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            told => told?,
        }
        for _ in 0..6_000 {
            let standing: Standing = self.client().get(&*path).send().await?;
            match &*standing.state {
                "running" | "waiting" | "compensating" => {}
                _ => return Ok(standing),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::bail!("{order_id} does not end")
    }

    fn client(&self) -> trunkline::Client {
        let network = self.running.network();
        let context = trunkline::Context::root(&trunkline::Env::system()).with_user("ann");
        trunkline::Client::new(network.channel("example", "returns-service"), context)
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.running.shutdown().await;
        Ok(std::fs::remove_dir_all(&self.data)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use trunkline::saga::State;
    use trunkline_testkit::saga::{Switch, exhaust};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_return_bears_every_fault() {
        for is_whole in [true, false] {
            bears_every_fault(is_whole).await;
        }
    }

    async fn bears_every_fault(is_whole: bool) {
        let switch = Arc::new(Switch::default());
        let probe = switch.clone();
        let place = Place::start(|platform| platform.saga_probe(probe)).await;
        let (place, switch, count) = (place.unwrap(), &switch, &AtomicU32::new(0));
        let returns = &place;
        exhaust(|about, probe| async move {
            let number = count.fetch_add(1, Ordering::Relaxed);
            switch.set(probe);
            let order_id = format!("order-{number}");
            let ended = returns.takes_back(&order_id, is_whole).await.unwrap();
            let state = State::named(&ended.state).unwrap();
            let left = (ended.labels, ended.shelved, ended.vouchers);
            match state {
                State::Completed => assert_eq!(left, (1, 2, 1), "{about}"),
                _ => assert_eq!(left, (0, 0, 0), "{about}"),
            }
            state
        })
        .await;
        place.stop().await.unwrap();
    }
}
