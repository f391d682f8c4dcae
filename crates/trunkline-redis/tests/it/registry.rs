//! The registry: who is known, for how long, and what a server does to it that dies, forgets or lies.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::time::{Instant, timeout};
use trunkline_call::balance::Balance;
use trunkline_call::discovery::{Discovery, Instance, Registration, Registry};
use trunkline_call::{Network, Responses};
use trunkline_core::Error;
use trunkline_redis::RedisRegistry;
use trunkline_telemetry::Telemetry;
use trunkline_testkit::{Proxy, eventually};

use super::*;

type Lists = BoxStream<'static, Result<Vec<Instance>>>;

fn registry_at(place: &str, prefix: &str, heartbeat_ms: u32) -> Arc<RedisRegistry> {
    let url = format!("{place}?prefix={prefix}&timeout_ms=2000&heartbeat_ms={heartbeat_ms}");
    Arc::new(RedisRegistry::from_url(&url).unwrap())
}

fn registry(prefix: &str, heartbeat_ms: u32) -> Arc<RedisRegistry> {
    registry_at(&Server::shared().url(), prefix, heartbeat_ms)
}

fn at(port: u16) -> Instance {
    Instance::at("10.0.0.1", port).unwrap()
}

async fn register(registry: &Arc<RedisRegistry>, instance: Instance) -> Registration {
    Registration::start(registry.clone(), "s", instance, Env::system()).await
}

async fn next(lists: &mut Lists) -> Result<Vec<Instance>> {
    let next = timeout(COMES, lists.next()).await.expect("it comes");
    next.expect("the watch is open")
}

async fn until(lists: &mut Lists, expected: &[Instance]) {
    let comes = async { while next(lists).await.unwrap() != expected {} };
    timeout(COMES, comes).await.expect("it is listed");
}

#[tokio::test]
async fn who_comes_changes_and_leaves_is_seen_at_once() {
    let registry = registry(&prefix(), 600_000);
    let mut lists = registry.watch("s");
    assert_eq!(next(&mut lists).await.unwrap(), []);
    // Nothing is looked at again within two minutes: so it is the notices that are seen.
    let one = register(&registry, at(1).with_weight(3)).await;
    until(&mut lists, &[at(1).with_weight(3)]).await;
    let two = register(&registry, at(2)).await;
    until(&mut lists, &[at(1).with_weight(3), at(2)]).await;
    two.set_healthy(false);
    until(
        &mut lists,
        &[at(1).with_weight(3), at(2).with_health(false)],
    )
    .await;
    one.withdraw().await.unwrap();
    until(&mut lists, &[at(2).with_health(false)]).await;
    two.withdraw().await.unwrap();
    until(&mut lists, &[]).await;
    registry.withdraw("s", &at(2)).await.unwrap();
}

#[tokio::test]
async fn who_dies_is_gone_within_a_heartbeat_and_who_lives_stays() {
    let registry = registry(&prefix(), 2_000);
    let mut lists = registry.watch("s");
    let lives = register(&registry, at(1)).await;
    let dies = register(&registry, at(2)).await;
    until(&mut lists, &[at(1), at(2)]).await;
    drop(dies);
    let began = Instant::now();
    until(&mut lists, &[at(1)]).await;
    assert!(
        began.elapsed() <= Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    // It stays through several leases.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        assert_eq!(next(&mut lists).await.unwrap(), [at(1)]);
    }
    drop(lives);
}

#[tokio::test]
async fn clocks_of_clients_do_not_count() {
    let prefix = prefix();
    let registry = registry(&prefix, 2_000);
    registry.announce("s", &at(1)).await.unwrap();
    let key = format!("{prefix}{{registry:s}}:until");
    let until: f64 = cli(Server::shared(), &["ZSCORE", &key, "http://10.0.0.1:1"])
        .parse()
        .unwrap();
    let time = cli(Server::shared(), &["TIME"]);
    let seconds: f64 = time.lines().next().unwrap().parse().unwrap();
    assert!((until / 1_000.0 - seconds).abs() < 3.0, "{until} {seconds}");
}

#[tokio::test]
async fn a_server_that_is_killed_leaves_the_last_known_and_everybody_is_back_after() {
    let server = Server::start();
    let registry = registry_at(&server.url(), "r:", 4_000);
    let one = register(&registry, at(1)).await;
    // Two does not speak up again, but is given the time to.
    registry.announce("s", &at(2)).await.unwrap();
    let env = Env::system();
    let network = Network::new(Telemetry::new(env.clone()), env);
    network.discover("s", registry.clone(), Balance::default(), Responses::Plain);
    let known = |count| {
        let network = network.clone();
        async move || network.places()[0].instances == count
    };
    let is_troubled = || network.places()[0].trouble.is_some();
    eventually(COMES, known(2)).await;
    server.kill();
    eventually(COMES, async || is_troubled()).await;
    // Longer than a lease.
    let later = Instant::now() + Duration::from_secs(4);
    eventually(COMES, async || {
        assert_eq!(network.places()[0].instances, 2, "the last known are used");
        Instant::now() >= later
    })
    .await;
    // Whoever looks first is told of both; whoever waited before it tried again may see who spoke up alone.
    server.restart();
    let mut lists = registry.watch("s");
    let first = next(&mut lists).await.unwrap();
    assert_eq!(first, [at(1), at(2)], "it forgets nobody at once");
    eventually(COMES, async || !is_troubled()).await;
    eventually(COMES, known(1)).await;
    one.withdraw().await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again() {
    let proxy = Proxy::to(([127, 0, 0, 1], Server::shared().port()).into()).unwrap();
    let prefix = prefix();
    let through = registry_at(&format!("redis://{}", proxy.address()), &prefix, 600_000);
    let env = Env::system();
    let network = Network::new(Telemetry::new(env.clone()), env);
    network.discover("s", through.clone(), Balance::default(), Responses::Plain);
    let known = |count: usize| {
        let network = network.clone();
        async move || network.places()[0].instances == count
    };
    let one = register(&through, at(1)).await;
    eventually(COMES, known(1)).await;
    proxy.cut();
    eventually(COMES, async || network.places()[0].trouble.is_some()).await;
    assert_eq!(network.places()[0].instances, 1);
    // Seen by whoever listens anew, and not by a heartbeat, which is ten minutes.
    let direct = registry(&prefix, 600_000);
    let two = register(&direct, at(2)).await;
    eventually(COMES, known(2)).await;
    drop((one, two));
}

#[tokio::test]
async fn a_registry_that_lies_is_an_error_and_what_can_be_read_is_not() {
    let prefix = prefix();
    let registry = registry(&prefix, 30_000);
    let (until, what) = (
        format!("{prefix}{{registry:s}}:until"),
        format!("{prefix}{{registry:s}}:as"),
    );
    let later = "99999999999999";
    let server = Server::shared();
    let long = format!("http://{}", "x".repeat(400));
    cli(
        server,
        &[
            "ZADD",
            &until,
            later,
            "no address",
            later,
            "http://u@h:1",
            later,
            &long,
        ],
    );
    assert_eq!(
        next(&mut registry.watch("s")).await.unwrap_err().code(),
        "registry_unreadable"
    );
    cli(server, &["ZADD", &until, later, "http://h:1"]);
    cli(server, &["HSET", &what, "http://h:1", "many down or so"]);
    let h = Instance::at("h", 1).unwrap();
    assert_eq!(next(&mut registry.watch("s")).await.unwrap(), [h]);
    // More than are used: that many and no more come.
    let many: Vec<String> = (0..3_000)
        .flat_map(|n| [later.to_owned(), format!("http://h{n}:1")])
        .collect();
    for part in many.chunks(500) {
        let mut words = vec!["ZADD", &*until];
        words.extend(part.iter().map(String::as_str));
        cli(server, &words);
    }
    let count = next(&mut registry.watch("s")).await.unwrap().len();
    assert!((1_000..=1_024).contains(&count), "{count}");
    let error = registry.announce("s", &at(1)).await.unwrap_err();
    assert_eq!(error.code(), "instances_too_many");
    // Another's keys.
    cli(
        server,
        &["SET", &format!("{prefix}{{registry:t}}:until"), "mine"],
    );
    let error: Error = next(&mut registry.watch("t")).await.unwrap_err();
    assert_eq!(error.code(), "redis_wrong_type");
    let error = next(&mut registry.watch("a b")).await.unwrap_err();
    assert_eq!(error.code(), "service_name_invalid");
}

#[test]
fn a_wrong_url_names_the_mistake() {
    for (url, said) in [
        ("redis://:hunter2@h?heartbeat_ms=1", "400"),
        ("redis://:hunter2@h?heartbeat_ms=soon", "heartbeat_ms=soon"),
        ("redis://:hunter2@h?colour=red", "colour=red"),
        ("http://h", "redis://"),
    ] {
        let error = format!("{:?}", RedisRegistry::from_url(url).unwrap_err());
        assert!(
            error.contains(said) && !error.contains("hunter2"),
            "{url}: {error}"
        );
    }
    assert!(RedisRegistry::from_url("redis://h/3?heartbeat_ms=500&prefix=x:").is_ok());
}
