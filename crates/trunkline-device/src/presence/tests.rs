use tokio::time::advance;

use super::*;

const A: ByteString = ByteString::from_static("a");

fn presence() -> Presence {
    let mut config = DeviceConfig::from_url("mqtt://localhost", "test").unwrap();
    config.offline_after = Duration::from_secs(4);
    config.silence_max = Duration::from_secs(1_000);
    config.devices_max = 2;
    let mut presence = Presence::new(&config);
    presence.linked(true, Instant::now());
    presence
}

async fn after(seconds: u64, presence: &mut Presence) -> Vec<(bool, Cause)> {
    advance(Duration::from_secs(seconds)).await;
    let due = presence.due(Instant::now());
    due.into_iter().map(|it| (it.online, it.cause)).collect()
}

fn say(presence: &mut Presence, online: bool) -> Option<bool> {
    let change = presence.said(&A, online, false, Instant::now());
    change.map(|change| change.online)
}

#[tokio::test(start_paused = true)]
async fn a_will_is_told_once_and_after_a_while() {
    let mut presence = presence();
    assert_eq!(say(&mut presence, true), Some(true));
    assert_eq!(say(&mut presence, true), None);
    assert_eq!(say(&mut presence, false), None);
    assert!(!presence.is_reachable("a"), "known at once");
    assert_eq!(after(3, &mut presence).await, []);
    assert_eq!(say(&mut presence, false), None);
    assert_eq!(after(1, &mut presence).await, [(false, Cause::Said)]);
    assert_eq!(say(&mut presence, false), None);
    assert_eq!(after(5_000, &mut presence).await, [], "once");
    assert_eq!(say(&mut presence, true), Some(true));
    assert!(presence.is_reachable("a") && presence.is_reachable("unheard-of"));
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_back_at_once_was_not_away() {
    let mut presence = presence();
    say(&mut presence, true);
    for _ in 0..10 {
        say(&mut presence, false);
        assert_eq!(after(3, &mut presence).await, []);
        assert_eq!(say(&mut presence, true), None);
    }
    assert_eq!(after(10, &mut presence).await, []);
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_and_goes_is_told_less_and_less() {
    let mut presence = presence();
    say(&mut presence, true);
    let mut told = 0;
    for _ in 0..100 {
        say(&mut presence, false);
        told += after(10, &mut presence).await.len();
        told += usize::from(say(&mut presence, true).is_some());
        advance(Duration::from_secs(1)).await;
    }
    // 4 and 8 s fit into its absences of 10 s, 16 s do not.
    assert_eq!(told, 4);
    // After a long stay it is believed again.
    advance(Duration::from_secs(200)).await;
    say(&mut presence, false);
    assert_eq!(after(4, &mut presence).await, [(false, Cause::Said)]);
}

#[tokio::test(start_paused = true)]
async fn silence_counts_only_while_the_broker_is_reached() {
    let mut presence = presence();
    say(&mut presence, true);
    assert_eq!(after(600, &mut presence).await, []);
    assert_eq!(presence.heard(&A, Instant::now()), None);
    assert_eq!(after(600, &mut presence).await, []);
    presence.linked(false, Instant::now());
    assert_eq!(
        after(5_000, &mut presence).await,
        [],
        "nobody could hear it"
    );
    presence.linked(true, Instant::now());
    assert_eq!(after(999, &mut presence).await, []);
    assert_eq!(after(1_001, &mut presence).await, [(false, Cause::Silent)]);
    // What the broker remembers is from before.
    assert_eq!(presence.said(&A, true, true, Instant::now()), None);
    let heard = presence.heard(&A, Instant::now()).unwrap();
    assert_eq!((heard.online, heard.cause), (true, Cause::Heard));
}

#[tokio::test(start_paused = true)]
async fn a_restart_tells_only_what_has_changed() {
    let mut presence = presence();
    let known = |device: &'static str, online| Known {
        device: device.into(),
        online,
        silent: false,
    };
    presence.load(vec![known("a", true), known("b", false)], Instant::now());
    // The broker remembers both as they were told.
    assert_eq!(presence.said(&A, true, true, Instant::now()), None);
    let b = ByteString::from_static("b");
    assert_eq!(presence.said(&b, false, true, Instant::now()), None);
    assert_eq!(after(10, &mut presence).await, []);
    // One that went while nobody listened.
    assert_eq!(presence.said(&A, false, true, Instant::now()), None);
    assert_eq!(after(4, &mut presence).await, [(false, Cause::Said)]);
    // One that is never heard again.
    presence.said(&b, true, false, Instant::now()).unwrap();
    assert_eq!(after(1_000, &mut presence).await, [(false, Cause::Silent)]);
    // A third is beyond the bound.
    assert_eq!(
        presence.said(&"c".into(), true, false, Instant::now()),
        None
    );
}
