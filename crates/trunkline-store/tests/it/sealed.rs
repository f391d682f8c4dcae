//! Values that are sealed in their columns.

use trunkline_core::{Env, Retry};
use trunkline_security::{Keyring, Secret};
use trunkline_store::{Migration, Sealed, SealedColumn, Store, reseal, sql};

use crate::common::{Place, on_both_engines};

on_both_engines!(
    a_sealed_value_is_read_where_it_was_written,
    a_rotation_seals_every_row_anew,
);

const TABLES: &[Migration] = &[Migration {
    name: "0001_customer",
    sql: "CREATE TABLE customer (customer_id TEXT PRIMARY KEY, iban TEXT, phone TEXT)",
}];

const IBAN: SealedColumn = SealedColumn::new("customer", "iban", "customer_id");
const PHONE: SealedColumn = SealedColumn::new("customer", "phone", "customer_id");

fn keys(seals: &str, all: &[(&str, u8)]) -> Keyring {
    let key = |(id, byte): &(&str, u8)| ((*id).into(), Secret::new([*byte; 32]).unwrap());
    Keyring::new(
        seals,
        all.iter().map(key).collect::<Vec<_>>(),
        Env::system(),
    )
    .unwrap()
}

async fn insert(store: &Store, keys: &Keyring, row: &str, iban: &str) {
    let iban = Sealed::new(iban.to_owned()).seal(keys, IBAN, row).unwrap();
    let mut tx = store.begin().await.unwrap();
    sql("INSERT INTO customer (customer_id, iban) VALUES ($1, $2)")
        .bind(row)
        .bind(iban)
        .run(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

async fn stored(store: &Store, row: &str) -> String {
    let mut reader = store.read().await.unwrap();
    let select = sql("SELECT iban FROM customer WHERE customer_id = $1").bind(row);
    select.one::<(String,)>(reader.conn()).await.unwrap().0
}

async fn open_store(place: &Place) -> Store {
    let store = place.open().await;
    store.migrate(TABLES).await.unwrap();
    store
}

async fn a_sealed_value_is_read_where_it_was_written(place: Place) {
    let store = open_store(&place).await;
    let keys = keys("a", &[("a", 1)]);
    insert(&store, &keys, "c-1", "DE89").await;
    let text = stored(&store, "c-1").await;
    assert!(!text.contains("DE89"), "{text}");
    let read = Sealed::<String>::open(&text, &keys, IBAN, "c-1").unwrap();
    assert_eq!(read.reveal(), "DE89");
    assert_eq!(format!("{read:?}"), "Sealed(***)");
    for (column, row) in [(IBAN, "c-2"), (PHONE, "c-1")] {
        let error = Sealed::<String>::open(&text, &keys, column, row).unwrap_err();
        assert_eq!(error.code(), "sealed_invalid");
        assert_eq!(error.retry(), Retry::Permanent);
        assert!(error.to_string().contains("table: customer"), "{error}");
    }
    let wrong = Sealed::<u32>::open(&text, &keys, IBAN, "c-1").unwrap_err();
    assert!(!format!("{wrong:?}").contains("DE89"), "{wrong:?}");
}

async fn a_rotation_seals_every_row_anew(place: Place) {
    let store = open_store(&place).await;
    let old = keys("a_1", &[("a_1", 1)]);
    let both = keys("b", &[("a_1", 1), ("b", 2)]);
    let new = keys("b", &[("b", 2)]);
    for n in 0..250 {
        insert(&store, &old, &format!("c-{n:03}"), &n.to_string()).await;
    }
    insert(&store, &both, "c-250", "250").await;
    insert(&store, &keys("gone", &[("gone", 3)]), "c-100x", "x").await;
    let mut tx = store.begin().await.unwrap();
    sql("INSERT INTO customer (customer_id) VALUES ('none')")
        .run(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();

    let (mut resealed, mut failed, mut runs, mut after) = (0, 0, 0, None);
    loop {
        let done = reseal(&store, &both, IBAN, after.as_deref(), 120)
            .await
            .unwrap();
        (resealed, failed, runs) = (resealed + done.resealed, failed + done.failed, runs + 1);
        assert!(done.resealed <= 120, "a run has a bound");
        if let Some(error) = done.first_failure {
            assert_eq!(error.code(), "sealing_key_missing");
            assert!(error.to_string().contains("row: c-100x"), "{error}");
        }
        after = done.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((resealed, failed, runs), (250, 1, 3));
    for n in 0..=250 {
        let row = format!("c-{n:03}");
        let read = Sealed::<String>::open(&stored(&store, &row).await, &new, IBAN, &row);
        assert_eq!(read.unwrap().into_inner(), n.to_string());
    }
    let again = reseal(&store, &both, IBAN, None, 1000).await.unwrap();
    assert_eq!((again.resealed, again.failed, again.next), (0, 1, None));
    let odd = SealedColumn::new("customer; --", "iban", "customer_id");
    assert!(reseal(&store, &both, odd, None, 1).await.is_err());
}
