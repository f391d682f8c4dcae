//! The same services on every engine, in one process, in two and in eleven: only the configuration differs.

mod memory {
    use crate::store::TestStore;

    async fn store(config: &str) -> TestStore {
        TestStore::start_with(&format!("bus = \"memory:\"\n{config}")).await
    }

    crate::flows::flows!(store);
}

/// The URL of a place on a server that no other test has, without the parameters that `more` adds.
#[cfg(any(
    feature = "kafka",
    feature = "nats",
    feature = "rabbitmq",
    feature = "redis"
))]
pub(crate) fn place(server: &str, more: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static PLACES: AtomicU32 = AtomicU32::new(0);
    let number = PLACES.fetch_add(1, Ordering::Relaxed);
    format!("bus = \"{server}?prefix=shop{number}.{more}\"\n")
}

/// Tests of an engine: the store in one process with SQLite, and in eleven with PostgreSQL.
macro_rules! engine {
    ($name:ident, $feature:literal, $server:path, $more:literal) => {
        #[cfg(feature = $feature)]
        mod $name {
            fn bus() -> String {
                super::place(&<$server>::shared().url(), $more)
            }

            mod in_one_process {
                use crate::store::TestStore;

                async fn store(config: &str) -> TestStore {
                    TestStore::start_with(&format!("{}{config}", super::bus())).await
                }

                crate::flows::flows!(store);
            }

            mod in_eleven {
                use storefront::order::OrderFlow;

                use crate::postgres::on_postgres;
                use crate::store::{CONFIG, TestStore, by};
                use crate::story;

                async fn store(config: &str) -> TestStore {
                    let config = on_postgres(config);
                    TestStore::start_apart(&format!("{}{config}", super::bus())).await
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn order_creation_flow() {
                    story::create(store(CONFIG).await).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn payment_failure_flow() {
                    story::fail(store(CONFIG).await).await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn payment_failure_flow_by_orchestration() {
                    let config = by(OrderFlow::Orchestration, CONFIG);
                    story::fail(store(&config).await).await;
                }
            }

            mod in_two {
                use crate::postgres::on_postgres;
                use crate::store::{CONFIG, TestStore};
                use crate::story;

                #[tokio::test(flavor = "multi_thread")]
                async fn order_creation_flow() {
                    let config = format!("{}{}", super::bus(), on_postgres(CONFIG));
                    story::create(TestStore::start_two(&config).await).await;
                }
            }
        }
    };
}

engine!(
    redis,
    "redis",
    trunkline_testkit::redis::Server,
    "&takeover_ms=2000"
);
engine!(
    rabbitmq,
    "rabbitmq",
    trunkline_testkit::rabbitmq::Server,
    ""
);
engine!(
    nats,
    "nats",
    trunkline_testkit::nats::Server,
    "&lease_ms=2000"
);
engine!(
    kafka,
    "kafka",
    trunkline_testkit::kafka::Server,
    "&session_ms=2000&heartbeat_ms=50&commit_ms=20&handover_ms=3000"
);
