//! The same services on PostgreSQL: only the configuration differs.

use trunkline_testkit::postgres::Postgres;

use crate::store::{CONFIG, TestStore};
use crate::{browsing, orders, story};

/// The configuration of a store whose services have a schema each on a server that these tests start.
fn on_postgres(config: &str) -> String {
    let url = Postgres::shared().schema_url("shop");
    format!("store = \"{url}_{{service}}\"\n{config}")
}

async fn store() -> TestStore {
    TestStore::start_with(&on_postgres(CONFIG)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_goes_from_the_cart_to_its_confirmation() {
    let shop = store().await;
    let schemas = schemas_of(&shop);
    assert!(
        schemas.iter().any(|name| name.ends_with("_order-service")),
        "{schemas:?}"
    );
    orders::order_from_the_cart(shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn order_creation_flow() {
    story::create(store().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payment_failure_flow() {
    story::fail(store().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_expires_with_its_order() {
    orders::expire(TestStore::start_with(&on_postgres(orders::IMPATIENT)).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_is_the_same_order() {
    orders::same_key(store().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_sell_every_piece_once() {
    orders::sell_out(store().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_search_and_statistics_follow() {
    browsing::pages(store().await).await;
    browsing::search(store().await).await;
    browsing::count(store().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_finds_everything_again() {
    orders::second_start(&on_postgres(CONFIG)).await;
}

/// The schemas of the server, and the proof that the store keeps no table of its own elsewhere.
fn schemas_of(shop: &TestStore) -> Vec<String> {
    let files = std::fs::read_dir(shop.folder.path().join("data")).unwrap();
    let databases = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".db"));
    assert_eq!(databases.collect::<Vec<_>>(), Vec::<String>::new());
    let schemas = "SELECT nspname FROM pg_namespace";
    let answer = Postgres::shared()
        .command("psql")
        .args(["-Atc", schemas])
        .output()
        .unwrap();
    let answer = String::from_utf8(answer.stdout).unwrap();
    answer.lines().map(str::to_owned).collect()
}
