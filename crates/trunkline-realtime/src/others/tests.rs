use std::time::Duration;

use super::*;

fn member(id: &str, user: &str, rooms: &[&str]) -> Member {
    Member {
        namespace: "/games".into(),
        id: id.into(),
        pid: Some(format!("pid-{id}").into()),
        user: Some(user.into()),
        rooms: rooms.iter().map(|room| (*room).into()).collect(),
    }
}

fn news(node: u64, number: u64, what: What) -> News {
    News { node, number, what }
}

fn users(others: &Others, room: &str) -> Vec<String> {
    let mut found = BTreeMap::new();
    let room = ByteString::from(room);
    others.collect(&"/games".into(), Some(&room), &mut found);
    let users = found.into_values().flatten();
    users.map(|user| user.to_string()).collect()
}

#[test]
fn it_follows_who_comes_moves_and_goes() {
    let mut others = Others::default();
    let now = Instant::now();
    assert!(
        others.learn(news(1, 4, What::Beat), now),
        "it knows nothing of it"
    );
    assert!(!others.learn(news(1, 5, What::Anew), now));
    let here = What::Here(vec![
        member("a", "ada", &["1"]),
        member("b", "bob", &["1", "2"]),
    ]);
    assert!(!others.learn(news(1, 6, here), now));
    assert_eq!(users(&others, "1"), ["ada", "bob"]);
    assert_eq!(users(&others, ""), ["ada", "bob"]);
    let moved = What::Here(vec![member("a", "ada", &["2"])]);
    assert!(!others.learn(news(1, 7, moved), now));
    assert_eq!(
        (users(&others, "1"), users(&others, "2").len()),
        (vec!["bob".to_owned()], 2)
    );
    assert_eq!(others.known("pid-a").unwrap().rooms.len(), 1);
    let gone = What::Gone(vec![("/games".into(), "a".into())]);
    assert!(!others.learn(news(1, 8, gone.clone()), now));
    // What comes again changes nothing.
    assert!(!others.learn(news(1, 8, gone), now));
    assert_eq!(users(&others, ""), ["bob"]);
    assert!(others.known("pid-a").is_none());
    assert!(!others.learn(news(1, 8, What::Beat), now));
    others.learn(news(1, 8, What::Bye), now);
    assert!(others.rooms.is_empty() && others.pids.is_empty() && others.count == 0);
}

#[test]
fn what_was_missed_is_asked_for_once_and_told_anew() {
    let mut others = Others::default();
    let now = Instant::now();
    others.learn(news(1, 1, What::Anew), now);
    others.learn(
        news(1, 2, What::Here(vec![member("a", "ada", &["1"])])),
        now,
    );
    let missed = What::Here(vec![member("c", "eve", &["1"])]);
    assert!(
        others.learn(news(1, 4, missed.clone()), now),
        "3 is missing"
    );
    assert!(!others.learn(news(1, 5, missed), now), "it was asked for");
    assert!(others.learn(news(1, 5, What::Beat), now), "until it comes");
    assert_eq!(users(&others, "1"), ["ada"]);
    others.learn(news(1, 6, What::Anew), now);
    others.learn(
        news(1, 7, What::Here(vec![member("b", "bob", &["1"])])),
        now,
    );
    assert_eq!(users(&others, "1"), ["bob"]);
}

#[test]
fn a_silent_nodes_members_go_to_one_of_those_that_are_left() {
    let now = Instant::now();
    let later = now + Duration::from_secs(20);
    for (this, remembers) in [(3, 0), (1, 1)] {
        let mut others = Others::default();
        others.learn(news(9, 1, What::Anew), now);
        others.learn(
            news(9, 2, What::Here(vec![member("a", "ada", &["1"])])),
            now,
        );
        others.learn(news(2, 1, What::Anew), later);
        assert_eq!(others.sweep(now, this).len(), 0);
        assert_eq!(others.sweep(later, this).len(), remembers);
        assert_eq!(users(&others, "1").len(), 0);
        assert_eq!(others.nodes.len(), 1);
    }
}
