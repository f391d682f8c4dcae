//! The store's flows, wherever it keeps its data and whatever carries its events: only the configuration differs.

/// Tests of a module, each in a store that `$start` starts on a configuration.
macro_rules! flows {
    ($start:path) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn an_order_goes_from_the_cart_to_its_confirmation() {
            $crate::orders::order_from_the_cart($start($crate::store::CONFIG).await).await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn order_creation_flow() {
            $crate::story::create($start($crate::store::CONFIG).await).await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn payment_failure_flow() {
            $crate::story::fail($start($crate::store::CONFIG).await).await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn a_reservation_expires_with_its_order() {
            $crate::orders::expire($start($crate::orders::IMPATIENT).await).await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn the_same_key_is_the_same_order() {
            $crate::orders::same_key($start($crate::store::CONFIG).await).await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn many_at_once_sell_every_piece_once() {
            $crate::orders::sell_out($start($crate::store::CONFIG).await).await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn lists_search_and_statistics_follow() {
            $crate::browsing::pages($start($crate::store::CONFIG).await).await;
            $crate::browsing::search($start($crate::store::CONFIG).await).await;
            $crate::browsing::count($start($crate::store::CONFIG).await).await;
        }
    };
}
pub(crate) use flows;
