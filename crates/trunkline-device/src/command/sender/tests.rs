use std::collections::HashMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio::time::Instant;
use trunkline_testkit::eventually;

use super::*;

const LIMIT: Duration = Duration::from_secs(10_000);

/// Commands in memory, as the trait asks for.
#[derive(Default)]
struct Book {
    commands: Mutex<Vec<(Pending, Timestamp)>>,
    expired: Mutex<Vec<ByteString>>,
}

impl Book {
    fn add(&self, id: &'static str, device: &'static str, expires_at: Timestamp) {
        let pending = Pending {
            id: id.into(),
            device: device.into(),
            name: "n".to_owned(),
            data: "1".to_owned(),
            expires_at,
            attempts: 0,
        };
        let mut commands = self.commands.lock();
        let is_first = commands.iter().all(|(other, _)| other.device != device);
        let at = if is_first {
            Timestamp::UNIX_EPOCH
        } else {
            expires_at
        };
        commands.push((pending, at));
    }

    fn end(&self, id: &str) {
        let mut commands = self.commands.lock();
        commands.retain(|(command, _)| command.id != id);
        let mut seen = HashSet::new();
        for (command, at) in commands.iter_mut() {
            if seen.insert(command.device.clone()) && command.attempts == 0 {
                *at = Timestamp::UNIX_EPOCH;
            }
        }
    }
}

impl CommandBook for Book {
    fn due<'a>(&'a self, now: Timestamp, _: u32) -> BoxFuture<'a, Result<Vec<Pending>>> {
        let commands = self.commands.lock();
        let due = commands.iter().filter(|(_, at)| *at <= now);
        std::future::ready(Ok(due.map(|(command, _)| command.clone()).collect())).boxed()
    }

    fn next_due(&self) -> BoxFuture<'_, Result<Option<Timestamp>>> {
        let next = self.commands.lock().iter().map(|(_, at)| *at).min();
        std::future::ready(Ok(next)).boxed()
    }

    fn put_off<'a>(
        &'a self,
        command: &'a Pending,
        to: Timestamp,
        sent: bool,
    ) -> BoxFuture<'a, Result<()>> {
        for (other, at) in self.commands.lock().iter_mut() {
            if other.id == command.id {
                *at = to;
                other.attempts += u32::from(sent);
            }
        }
        std::future::ready(Ok(())).boxed()
    }

    fn rouse<'a>(&'a self, device: &'a str) -> BoxFuture<'a, Result<()>> {
        let mut seen = HashSet::new();
        for (command, at) in self.commands.lock().iter_mut() {
            let is_first = seen.insert(command.device.clone());
            if is_first && (device.is_empty() || command.device == device) {
                *at = Timestamp::UNIX_EPOCH;
            }
        }
        std::future::ready(Ok(())).boxed()
    }

    fn expire<'a>(&'a self, command: &'a Pending) -> BoxFuture<'a, Result<()>> {
        self.expired.lock().push(command.id.clone());
        self.end(&command.id);
        std::future::ready(Ok(())).boxed()
    }
}

/// A broker that counts what it gets.
#[derive(Default)]
struct World {
    sent: Mutex<Vec<(ByteString, Instant)>>,
    away: Mutex<HashSet<&'static str>>,
    down: Mutex<bool>,
}

impl World {
    fn count(&self) -> HashMap<ByteString, usize> {
        let mut counts = HashMap::new();
        for (id, _) in &*self.sent.lock() {
            *counts.entry(id.clone()).or_default() += 1;
        }
        counts
    }
}

impl Outlet for World {
    fn is_linked(&self) -> bool {
        !*self.down.lock()
    }

    fn is_reachable(&self, device: &str) -> bool {
        !self.away.lock().contains(device)
    }

    fn send(&self, _: &CommandTopics, command: &Pending, _: Duration) -> Result<()> {
        self.sent.lock().push((command.id.clone(), Instant::now()));
        Ok(())
    }
}

struct Scene {
    sender: Arc<Sender>,
    book: Arc<Book>,
    world: Arc<World>,
    _tasks: JoinSet<()>,
}

/// A sender whose clock is the runtime's.
fn scene(fill: impl FnOnce(&Book, &World, &Env)) -> Scene {
    let began = Instant::now();
    let env = Env::seeded_with_clock(1, move || {
        Timestamp::UNIX_EPOCH + Duration::from_secs(1) + began.elapsed()
    });
    let (book, world) = (Arc::new(Book::default()), Arc::new(World::default()));
    fill(&book, &world, &env);
    let topics = CommandTopics::new("v/{m}/commands", "v/{m}/replies").unwrap();
    let parts = (env, Arc::default());
    let sender = Sender::new(topics, book.clone(), parts, Duration::from_secs(10));
    let sender = Arc::new(sender);
    let mut tasks = JoinSet::new();
    let (run, outlet) = (sender.clone(), world.clone());
    tasks.spawn(async move { run.run(&*outlet, CancellationToken::new()).await });
    Scene {
        sender,
        book,
        world,
        _tasks: tasks,
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_answers_is_sent_again_ever_more_slowly_until_it_expires() {
    let began = Instant::now();
    let scene = scene(|book, _, env| {
        book.add("a", "m1", env.after(Duration::from_secs(100)));
        book.add("b", "m2", env.after(Duration::from_secs(100)));
    });
    let Scene { book, world, .. } = &scene;
    eventually(LIMIT, async || book.expired.lock().len() == 2).await;
    let sent = world.sent.lock();
    let of_a = sent.iter().filter(|(id, _)| id == "a");
    let seconds: Vec<u64> = of_a.map(|(_, at)| (*at - began).as_secs()).collect();
    assert_eq!(
        seconds,
        [0, 10, 30, 70],
        "the same id, after 10, 20 and 40 s"
    );
}

#[tokio::test(start_paused = true)]
async fn the_commands_of_a_device_go_one_after_the_other() {
    let scene = scene(|book, _, env| {
        book.add("a", "m1", env.after(Duration::from_secs(1_000)));
        book.add("b", "m1", env.after(Duration::from_secs(1_000)));
        book.add("c", "m2", env.after(Duration::from_secs(1_000)));
    });
    let Scene {
        book,
        world,
        sender,
        ..
    } = &scene;
    eventually(LIMIT, async || world.count().len() == 2).await;
    assert!(!world.count().contains_key("b"), "a is not answered");
    book.end("a");
    sender.wake.notify_one();
    eventually(LIMIT, async || world.count().contains_key("b")).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_away_gets_its_command_when_it_comes_and_not_before() {
    let scene = scene(|book, world, env| {
        world.away.lock().insert("m1");
        book.add("a", "m1", env.after(Duration::from_secs(1_000)));
        book.add("b", "m1", env.after(Duration::from_secs(500)));
    });
    let Scene {
        book,
        world,
        sender,
        ..
    } = &scene;
    let waits = async || !book.commands.lock().is_empty() && sender.waiting.lock().len() == 1;
    eventually(LIMIT, waits).await;
    tokio::time::advance(Duration::from_secs(400)).await;
    assert!(world.sent.lock().is_empty());
    world.away.lock().clear();
    sender.rouse(&"m1".into());
    eventually(LIMIT, async || world.count().contains_key("a")).await;
    eventually(LIMIT, async || book.expired.lock().len() == 2).await;
    assert_eq!(*book.expired.lock(), ["b", "a"], "each at its own time");
}

#[tokio::test(start_paused = true)]
async fn while_the_broker_is_away_commands_expire_and_none_is_spent() {
    let scene = scene(|book, world, env| {
        *world.down.lock() = true;
        book.add("a", "m1", env.after(Duration::from_secs(20)));
        book.add("b", "m2", env.after(Duration::from_secs(900)));
    });
    let Scene {
        book,
        world,
        sender,
        ..
    } = &scene;
    eventually(LIMIT, async || *book.expired.lock() == ["a"]).await;
    assert_eq!(book.commands.lock()[0].0.attempts, 0);
    *world.down.lock() = false;
    sender.linked();
    eventually(LIMIT, async || world.count().contains_key("b")).await;
}
