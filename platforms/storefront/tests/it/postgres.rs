//! The same services on PostgreSQL: only the configuration differs.

use trunkline_testkit::postgres::Postgres;

use crate::flows::flows;
use crate::orders;
use crate::store::{CONFIG, TestStore};

/// The configuration of a store whose services have a schema each on a server that these tests start.
pub(crate) fn on_postgres(config: &str) -> String {
    let url = Postgres::shared().schema_url("shop");
    format!("store = \"{url}_{{service}}\"\n{config}")
}

async fn store(config: &str) -> TestStore {
    TestStore::start_with(&on_postgres(config)).await
}

flows!(store);

#[tokio::test(flavor = "multi_thread")]
async fn each_service_has_a_schema_of_its_own() {
    let shop = store(CONFIG).await;
    let schemas = schemas_of(&shop);
    assert!(
        schemas.iter().any(|name| name.ends_with("_order-service")),
        "{schemas:?}"
    );
    shop.stop().await;
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
