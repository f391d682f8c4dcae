//! Exchanges and queues from a file.

use trunkline_rabbitmq::topology::{Outcome, apply, plan, read};
use trunkline_testkit::rabbitmq::Server;

/// The storefront's, as it stands in its documents.
const STOREFRONT: &str = "
# Exchange Configuration
exchanges:
  - name: order.exchange
    type: topic
    durable: true

  - name: payment.exchange
    type: topic
    durable: true

  - name: inventory.exchange
    type: topic
    durable: true

# Queue Configuration
queues:
  - name: payment.order.queue
    durable: true
    bindings:
      - exchange: order.exchange
        routing_key: order.created

  - name: notification.order.queue
    durable: true
    bindings:
      - exchange: order.exchange
        routing_key: order.*
      - exchange: payment.exchange
        routing_key: payment.*
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_planned_and_applied_once_and_a_conflict_is_left_as_it_is() {
    let server = Server::shared();
    server.control(&["add_vhost", "topology"]);
    server.control(&[
        "set_permissions",
        "-p",
        "topology",
        "guest",
        ".*",
        ".*",
        ".*",
    ]);
    let rabbit = crate::open(&format!("{}/topology", server.url()), "").await;
    let topology = read(STOREFRONT).unwrap();
    let first = plan(&rabbit, &topology).await.unwrap();
    assert_eq!((first.to_make(), first.refused()), (5, 0), "{first}");
    let listed = || server.control(&["list_bindings", "-p", "topology", "routing_key"]);
    assert!(!listed().contains("payment.*"), "a plan changes nothing");
    assert_eq!(apply(&rabbit, &first).await.unwrap(), 5);
    assert!(listed().contains("payment.*"));
    let before = listed();
    let second = plan(&rabbit, &topology).await.unwrap();
    assert_eq!((second.to_make(), second.refused()), (0, 0), "{second}");
    assert_eq!(apply(&rabbit, &second).await.unwrap(), 0);
    assert_eq!(listed(), before, "a second run changes nothing");
    let other = "
exchanges: [{name: order.exchange, type: fanout}, {name: new.exchange}]
queues: [{name: payment.order.queue, durable: false, bindings: [{exchange: new.exchange, routing_key: a}]}]
";
    let third = plan(&rabbit, &read(other).unwrap()).await.unwrap();
    assert_eq!((third.to_make(), third.refused()), (1, 2), "{third}");
    let conflict = &third.steps[0].outcome;
    assert!(
        matches!(conflict, Outcome::Conflict(said) if said.contains("topic")),
        "{third}"
    );
    assert_eq!(apply(&rabbit, &third).await.unwrap(), 1);
    let again = plan(&rabbit, &topology).await.unwrap();
    assert_eq!((again.to_make(), again.refused()), (0, 0), "{again}");
}
