use trunkline_core::{Env, Envelope, Timestamp};
use trunkline_store::Store;
use trunkline_testkit::numbered;

use super::*;

struct Rig {
    trail: Trail,
    recorded: watch::Sender<u64>,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/platform.db", folder.path().display());
        let store = Store::open(&url, "platform", Env::system()).await.unwrap();
        Self {
            trail: Trail::open(store).await.unwrap(),
            recorded: watch::Sender::new(0),
            stop: CancellationToken::new(),
            _folder: folder,
        }
    }

    async fn append(&self, key: &str, count: usize) -> Vec<Envelope> {
        let entry = |envelope| TrailEntry {
            position: 0,
            recorded_at: Timestamp::UNIX_EPOCH,
            envelope,
            business_keys: Vec::new(),
        };
        let events: Vec<_> = (0..count).map(|n| numbered("t", key, n)).collect();
        let entries: Vec<_> = events.iter().cloned().map(entry).collect();
        self.trail.append(&entries).await.unwrap();
        self.recorded.send_modify(|count| *count += 1);
        events
    }

    fn follow(&self, after: Option<u64>) -> Follow {
        Follow {
            trail: self.trail.clone(),
            query: EventQuery {
                after,
                limit: PAGE,
                ..EventQuery::default()
            },
            recorded: self.recorded.subscribe(),
            stop: self.stop.clone(),
            behind_max: 100,
            ready: VecDeque::new(),
            is_live: false,
            is_over: false,
            _place: None,
        }
    }
}

async fn read(follow: &mut Follow, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        match follow.next().await {
            Some(Said::Recorded(found)) => ids.push(found.envelope.id.to_string()),
            other => panic!("expected an event, found {other:?}"),
        }
    }
    ids
}

fn ids(events: &[Envelope]) -> Vec<String> {
    events.iter().map(|event| event.id.to_string()).collect()
}

#[tokio::test]
async fn a_follower_reads_what_was_and_what_comes_and_ends_with_the_platform() {
    let rig = Rig::new().await;
    // More than a page, and more than a follower may be behind: it has never been up to date.
    let before = rig.append("a", 150).await;
    let mut follow = rig.follow(Some(0));
    assert_eq!(read(&mut follow, 150).await, ids(&before));
    let (told, after) = tokio::join!(read(&mut follow, 3), rig.append("b", 3));
    assert_eq!(told, ids(&after));
    let ((), ended) = tokio::join!(async { rig.stop.cancel() }, follow.next());
    assert!(ended.is_none(), "{ended:?}");
}

#[tokio::test]
async fn a_follower_from_now_on_sees_nothing_of_before() {
    let rig = Rig::new().await;
    rig.append("a", 5).await;
    let mut follow = rig.follow(None);
    follow.begin_now().await.unwrap();
    let after = rig.append("b", 2).await;
    assert_eq!(read(&mut follow, 2).await, ids(&after));
}

#[tokio::test]
async fn a_follower_that_falls_behind_is_told_where_it_was_and_let_go() {
    let rig = Rig::new().await;
    let mut follow = rig.follow(None);
    follow.begin_now().await.unwrap();
    let seen = rig.append("a", 1).await;
    assert_eq!(read(&mut follow, 1).await, ids(&seen));
    let missed = rig.append("b", 101).await;
    let place = match follow.next().await {
        Some(Said::Behind(place)) => place,
        other => panic!("expected to be let go, found {other:?}"),
    };
    assert!(follow.next().await.is_none());
    // It may come again, and has missed nothing.
    let mut again = rig.follow(Some(place));
    assert_eq!(read(&mut again, 101).await, ids(&missed));
}
