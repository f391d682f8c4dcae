//! The journal of sagas: the suite, transactions of a service, restarts and kills.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use sqlx::Row;
use trunkline_core::{Clock, Env, Timestamp};
use trunkline_saga::{
    Body, Change, Claim, Data, Entry, Instance, Journal, Message, State, Went, Which, Write,
    Written,
};
use trunkline_store::{Engine, Store, sql, sqlx};
use trunkline_testkit::Child;
use trunkline_testkit::journal::{Bench, cases};
use uuid::Uuid;

use crate::common::{NOTES, Place, notes, on_both_engines};

on_both_engines!(
    a_write_commits_with_the_rows,
    what_is_refused_leaves_the_transaction_usable,
    batches_that_cross_each_other_are_all_written,
    an_idle_claim_writes_nothing,
    those_that_have_not_ended_are_counted,
);

const CHILD: &str = "TRUNKLINE_STORE_SAGAS_FILE";
const KILLED: &str = "sagas::what_was_answered_survives_a_kill";

async fn suite(engine: Engine) {
    for case in cases() {
        println!("{engine:?}: {}", case.name);
        let place = Place::new(engine);
        let (env, clock): (Env, Clock) = Env::manual(7);
        let store = Store::open(&place.url, "suite", env).await.unwrap();
        let bench = Bench::new(std::sync::Arc::new(store.sagas()), clock);
        (case.run)(bench).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_is_a_journal() {
    suite(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_is_a_journal() {
    suite(Engine::Postgres).await;
}

pub(crate) fn instance(env: &Env, key: &str, owner: &str) -> Instance {
    let now = Timestamp::from_microsecond(env.now().as_microsecond()).unwrap();
    Instance {
        id: env.id(),
        saga: "order".into(),
        key: key.into(),
        version: 1,
        state: State::Running,
        input: Data::null(),
        context: Data::null(),
        correlation_id: "flow".into(),
        status: None,
        output: None,
        error: None,
        started_at: now,
        changed_at: now,
        wake_at: None,
        owner: Some(owner.into()),
        parent: None,
    }
}

fn step(id: Uuid, seq: u64) -> Write {
    let entry = Entry {
        seq,
        place: seq.to_string().into(),
        name: "step".into(),
        began: Timestamp::UNIX_EPOCH,
        at: Timestamp::UNIX_EPOCH,
        body: Body::Elapsed,
    };
    went(id, vec![entry], None)
}

pub(crate) fn went(id: Uuid, entries: Vec<Entry>, change: Option<Change>) -> Write {
    Write::Went(Went {
        id,
        owner: "a".into(),
        entries,
        status: None,
        change: change.map(Box::new),
    })
}

fn tell(id: Uuid, message: &str) -> Write {
    let message = Message {
        id: message.into(),
        name: "paid".into(),
        data: Data::null(),
        at: Timestamp::UNIX_EPOCH,
    };
    Write::Tell(Which::Id(id), message)
}

fn claim(owner: &str) -> Claim {
    Claim {
        owner: owner.into(),
        lease: Duration::from_secs(60),
        sagas: vec!["order".into()],
        max: 10,
    }
}

async fn a_write_commits_with_the_rows(place: Place) {
    let store = place.open().await;
    store.migrate(NOTES).await.unwrap();
    let one = instance(store.env(), "k", "a");
    for commits in [false, true] {
        let mut tx = store.begin().await.unwrap();
        let note = sql("INSERT INTO note (name, value) VALUES ('n', 1)");
        note.run(tx.conn()).await.unwrap();
        let start = Write::Start(Box::new(one.clone()));
        for write in [start, step(one.id, 0), tell(one.id, "m")] {
            assert_eq!(tx.saga(&write).await.unwrap(), Written::Done);
        }
        if commits {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        let found = store.sagas().load(&Which::Id(one.id)).await.unwrap();
        let kept = found.map(|record| (record.entries.len(), record.messages.len()));
        assert_eq!(kept, commits.then_some((1, 1)));
        assert_eq!(notes(&store).await, i64::from(commits));
    }
    let mut tx = store.begin().await.unwrap();
    let prune = Write::Prune(Timestamp::MAX, 1);
    assert_eq!(
        tx.saga(&prune).await.unwrap_err().code(),
        "saga_write_unfit"
    );
}

async fn what_is_refused_leaves_the_transaction_usable(place: Place) {
    let store = place.open().await;
    store.migrate(NOTES).await.unwrap();
    let (one, two) = (
        instance(store.env(), "k", "a"),
        instance(store.env(), "k", "a"),
    );
    let start = Write::Start(Box::new(one.clone()));
    let batch = [start, step(one.id, 0)];
    store.sagas().write(&batch).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let exists = tx.saga(&Write::Start(Box::new(two.clone()))).await.unwrap();
    assert_eq!(exists, Written::Exists(Box::new(one.clone())));
    assert_eq!(
        tx.saga(&tell(two.id, "m")).await.unwrap(),
        Written::NotFound
    );
    let note = sql("INSERT INTO note (name, value) VALUES ('n', 1)");
    note.run(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(notes(&store).await, 1);
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.saga(&step(one.id, 0)).await.unwrap(), Written::Lost);
    tx.rollback().await.unwrap();
}

/// Many batches at a time that start, tell and change the same instances in different orders.
async fn batches_that_cross_each_other_are_all_written(place: Place) {
    let store = place.open().await;
    let ids: Vec<Uuid> = (0..20).map(|_| store.env().id()).collect();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..6_usize {
        let (store, mut ids) = (store.clone(), ids.clone());
        ids.rotate_left(writer * 3);
        if writer % 2 == 1 {
            ids.reverse();
        }
        writers.spawn(async move {
            for round in 0..5 {
                let starts = ids.iter().map(|id| {
                    let one = instance(store.env(), &id.to_string(), "a");
                    Write::Start(Box::new(Instance { id: *id, ..one }))
                });
                let tells = ids.iter().map(|id| tell(*id, &format!("{writer}-{round}")));
                let batch: Vec<Write> = starts.chain(tells).collect();
                for written in &store.sagas().write(&batch).await.unwrap()[20..] {
                    assert_eq!(*written, Written::Done);
                }
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    for id in ids {
        let found = store.sagas().load(&Which::Id(id)).await.unwrap().unwrap();
        assert_eq!(found.messages.len(), 30);
        let rest = Change {
            messages: Some(30),
            ..Change::to(State::Waiting)
        };
        let written = store
            .sagas()
            .write(&[went(id, vec![], Some(rest))])
            .await
            .unwrap();
        assert_eq!(written, [Written::Done], "as many were counted as came");
    }
}

async fn an_idle_claim_writes_nothing(place: Place) {
    let (env, clock) = Env::manual(3);
    let store = Store::open(&place.url, "idle", env).await.unwrap();
    let until = async || {
        let mut reader = store.read().await.unwrap();
        let row = sqlx::query("SELECT until FROM trunkline_saga_owner");
        row.fetch_one(reader.conn()).await.unwrap().get::<i64, _>(0)
    };
    store.sagas().claim(&claim("a")).await.unwrap();
    let first = until().await;
    clock.advance(Duration::from_secs(19));
    store.sagas().claim(&claim("a")).await.unwrap();
    assert_eq!(until().await, first, "two thirds of its lease are left");
    clock.advance(Duration::from_secs(2));
    store.sagas().claim(&claim("a")).await.unwrap();
    assert_eq!(until().await, first + 21_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_opens_a_file_alone_frees_what_others_had() {
    let place = Place::new(Engine::Sqlite);
    let store = place.open().await;
    let one = instance(store.env(), "k", "a");
    store.sagas().claim(&claim("a")).await.unwrap();
    let start = Write::Start(Box::new(one.clone()));
    store.sagas().write(&[start]).await.unwrap();
    let beside = place.open().await;
    let claimed = beside.sagas().claim(&claim("b")).await.unwrap();
    assert!(claimed.ids.is_empty(), "the first still has it");
    beside.close().await;
    store.close().await;
    drop((beside, store));
    let again = place.open().await;
    let claimed = again.sagas().claim(&claim("b")).await.unwrap();
    assert_eq!(claimed.ids, [one.id]);
}

/// Writes batches for ever, and says on its output what was answered.
async fn be_killed(url: &str) {
    let store = Store::open(url, "test-service", Env::system())
        .await
        .unwrap();
    let journal = store.sagas();
    let mut out = std::io::stdout();
    loop {
        let ones: Vec<Instance> = (0..20)
            .map(|_| instance(store.env(), &store.env().id().to_string(), "a"))
            .collect();
        let starts: Vec<Write> = ones
            .iter()
            .map(|one| Write::Start(Box::new(one.clone())))
            .collect();
        let written = journal.write(&starts).await.unwrap();
        assert!(written.iter().all(|written| *written == Written::Done));
        for seq in 0..4 {
            let steps: Vec<Write> = ones.iter().map(|one| step(one.id, seq)).collect();
            let written = journal.write(&steps).await.unwrap();
            assert!(written.iter().all(|written| *written == Written::Done));
            for one in &ones {
                writeln!(out, "done {} {seq}", one.id).unwrap();
            }
            out.flush().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_a_kill() {
    if let Ok(url) = std::env::var(CHILD) {
        return be_killed(&url).await;
    }
    let place = Place::new(Engine::Sqlite);
    let mut answered = BTreeMap::new();
    for round in 1..4 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", KILLED, "--nocapture"])
            .env(CHILD, &place.url);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = Child::spawn(&mut command).unwrap();
        let lines = BufReader::new(child.process().stdout.take().unwrap()).lines();
        let mut count = 0;
        for line in lines {
            let Ok(line) = line else { break };
            let Some((id, seq)) = line
                .strip_prefix("done ")
                .and_then(|rest| rest.split_once(' '))
            else {
                continue;
            };
            // The last line may be cut off.
            if let (Ok(id), Ok(seq)) = (id.parse::<Uuid>(), seq.parse::<u64>()) {
                answered.insert(id, seq);
            }
            count += 1;
            if count == 100 * round {
                child.kill().unwrap();
            }
        }
        assert!(count >= 100 * round, "it wrote until it was killed");
    }
    let store = place.open().await;
    for (id, seq) in answered {
        let record = store.sagas().load(&Which::Id(id)).await.unwrap().unwrap();
        let seqs: Vec<u64> = record.entries.iter().map(|entry| entry.seq).collect();
        let whole: Vec<u64> = (0..u64::try_from(seqs.len()).unwrap()).collect();
        assert_eq!(seqs, whole, "no gap");
        assert!(seqs.contains(&seq), "{id} {seq}");
    }
}

async fn those_that_have_not_ended_are_counted(place: Place) {
    let store = place.open().await;
    let sagas = store.sagas();
    let env = store.env().clone();
    let at = |second| Timestamp::from_second(second).unwrap();
    let states = [
        (State::Running, None),
        (State::Running, Some(5)),
        (State::Waiting, Some(20)),
        (State::Compensating, Some(7)),
        (State::Parked, Some(1)),
        (State::Completed, None),
        (State::Compensated, None),
    ];
    let starts = states.into_iter().enumerate().map(|(n, (state, due))| {
        let mut one = instance(&env, &format!("k{n}"), "me");
        one.state = state;
        if due.is_some() {
            one.owner = None;
        }
        one.wake_at = due.map(at);
        Write::Start(Box::new(one))
    });
    let starts: Vec<_> = starts.collect();
    sagas.write(&starts).await.unwrap();
    let standing = sagas.standing(at(10)).await.unwrap();
    let counts = (standing.running, standing.waiting, standing.compensating);
    assert_eq!(counts, (2, 1, 1));
    assert_eq!((standing.parked, standing.overdue), (1, 2));
}
