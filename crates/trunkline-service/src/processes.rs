//! Parts of a platform, each in a process of its own on this machine: started, started again when they end, and stopped.

use std::collections::VecDeque;
use std::fmt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use trunkline_core::{ByteString, Error, Result};

/// A part that ends is started again after this pause, which doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A part that ran for so long is started again as if it had never ended.
const STEADY: Duration = Duration::from_secs(30);
/// A part that ends so often before it was ever up can't be started: all is stopped.
const STARTS_MAX: u32 = 5;
/// So many of a part's last lines are told when it can't be started.
const LINES_KEPT: usize = 8;
/// A longer line is cut.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Lines that nobody has taken yet; the parts wait with more.
const NOTICES_MAX: usize = 1_024;

/// A part of a platform: the program that runs it.
#[derive(Debug)]
pub struct Part {
    name: ByteString,
    command: Command,
}

impl Part {
    /// A part and its program. When it is up, the program writes a line that begins with `NAME is up`; it ends in order
    /// when it is terminated, or when its standard input ends, for then whoever started it is gone.
    pub fn new(name: impl Into<ByteString>, command: impl Into<Command>) -> Self {
        Self {
            name: name.into(),
            command: command.into(),
        }
    }
}

/// What is told of the parts.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// A part takes requests; told each time.
    Up {
        /// The part.
        part: ByteString,
    },
    /// A part wrote a line.
    Line {
        /// The part.
        part: ByteString,
        /// The line, without its end.
        line: String,
        /// Whether it is of its standard error.
        is_error: bool,
    },
    /// A part ended although nobody asked it to; it is started again after a pause.
    Ended {
        /// The part.
        part: ByteString,
        /// How.
        status: ExitStatus,
        /// The pause.
        pause: Duration,
    },
    /// Every part is up, for the first time.
    AllUp,
}

/// Starts parts and keeps them running.
#[derive(Debug)]
pub struct Processes {
    parts: Vec<Part>,
    grace: Duration,
}

impl Processes {
    /// These parts. The last, which leads requests to the others, is started when all others are up, and is stopped
    /// before them. A part that is asked to end has `grace`; then it is killed.
    pub fn new(parts: Vec<Part>, grace: Duration) -> Self {
        Self { parts, grace }
    }

    /// Runs them until `stop`, and tells what happens. When it returns, all have ended.
    ///
    /// # Errors
    /// `Unavailable` when a part can't be started: its program is missing, or it ended five times and was never up. The
    /// last lines that it wrote say why.
    pub async fn run(
        self,
        stop: impl Future<Output = ()>,
        mut told: impl FnMut(Notice),
    ) -> Result<()> {
        let (notices, mut heard) = mpsc::channel(NOTICES_MAX);
        // Counts up: first the last part is to end, then the rest.
        let stage = watch::Sender::new(0_usize);
        let count = self.parts.len();
        let mut keepers = JoinSet::new();
        let ups = watch::Sender::new(0_usize);
        for (at, part) in self.parts.into_iter().enumerate() {
            let is_last = at + 1 == count;
            let keeper = Keeper {
                ends_at: if is_last { 1 } else { 2 },
                begins_at: if is_last { count - 1 } else { 0 },
                ups: ups.subscribe(),
                stage: stage.subscribe(),
                grace: self.grace,
                notices: notices.clone(),
                name: part.name,
                last_lines: VecDeque::new(),
            };
            keepers.spawn(keeper.keep(part.command));
        }
        drop(notices);
        let mut up = std::collections::BTreeSet::new();
        let mut result = Ok(());
        let mut stop = std::pin::pin!(stop);
        let mut stops = false;
        loop {
            tokio::select! {
                biased;
                () = &mut stop, if !stops => {
                    stops = true;
                    stage.send_replace(1);
                }
                Some(notice) = heard.recv() => {
                    let is_up = match &notice {
                        Notice::Up { part } => up.insert(part.clone()),
                        _ => false,
                    };
                    told(notice);
                    ups.send_replace(up.len());
                    if is_up && up.len() == count {
                        told(Notice::AllUp);
                    }
                }
                ended = keepers.join_next() => match ended {
                    None => return result,
                    Some(Ok(Ok(()))) => {
                        // The last part has ended, and now the rest may.
                        stage.send_replace(2);
                    }
                    Some(failed) => {
                        let failed = failed.unwrap_or_else(|error| {
                            Err(Error::internal("a keeper of a process failed").with_source(error))
                        });
                        result = result.and(failed);
                        stops = true;
                        stage.send_replace(2);
                    }
                },
            }
        }
    }
}

/// Keeps one part running.
struct Keeper {
    name: ByteString,
    /// How many others are up when it begins.
    begins_at: usize,
    ups: watch::Receiver<usize>,
    /// The stage at which it ends.
    ends_at: usize,
    stage: watch::Receiver<usize>,
    grace: Duration,
    notices: mpsc::Sender<Notice>,
    last_lines: VecDeque<String>,
}

impl Keeper {
    async fn keep(mut self, mut command: Command) -> Result<()> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is ours: the parts are asked one after the other.
            .process_group(0)
            .kill_on_drop(true);
        let (begins_at, ends_at) = (self.begins_at, self.ends_at);
        tokio::select! {
            biased;
            () = reached(&mut self.stage, ends_at) => return Ok(()),
            () = reached(&mut self.ups, begins_at) => {}
        }
        let (mut failures, mut was_up) = (0_u32, false);
        loop {
            let began = Instant::now();
            let child = command.spawn().map_err(|error| {
                Error::unavailable(
                    "process_unstartable",
                    "a part of the platform can't be started",
                )
                .with("part", &self.name)
                .with_source(error)
            })?;
            let Some(status) = self.attend(child, &mut was_up).await? else {
                return Ok(());
            };
            failures = if began.elapsed() < STEADY {
                failures + 1
            } else {
                1
            };
            if !was_up && failures >= STARTS_MAX {
                let text = "a part of the platform ends before it is up";
                return Err(Error::unavailable("process_unstartable", text)
                    .with("part", &self.name)
                    .with("status", status)
                    .with("it said", Vec::from(self.last_lines).join(" | ")));
            }
            let pause = PAUSE_MAX.min(PAUSE * 2_u32.saturating_pow(failures - 1));
            let part = self.name.clone();
            self.tell(Notice::Ended {
                part,
                status,
                pause,
            })
            .await;
            tokio::select! {
                biased;
                () = reached(&mut self.stage, ends_at) => return Ok(()),
                () = sleep(pause) => {}
            }
        }
    }

    /// Waits for the end of a child. None if it was asked to end, and did.
    async fn attend(&mut self, mut child: Child, was_up: &mut bool) -> Result<Option<ExitStatus>> {
        // Held open: its end tells the child that nobody is left here.
        let _input = child.stdin.take();
        let (lines, mut written) = mpsc::channel(1);
        let mut readers = JoinSet::new();
        if let Some(out) = child.stdout.take() {
            readers.spawn(read(out, false, lines.clone()));
        }
        if let Some(err) = child.stderr.take() {
            readers.spawn(read(err, true, lines.clone()));
        }
        drop(lines);
        let up = format!("{} is up", self.name);
        let ends_at = self.ends_at;
        let mut stage = self.stage.clone();
        let (mut asked, mut killed) = (false, false);
        let mut limit = std::pin::pin!(sleep(self.grace));
        let mut is_silent = false;
        let status = loop {
            tokio::select! {
                biased;
                line = written.recv(), if !is_silent => match line {
                    None => is_silent = true,
                    Some((line, is_error)) => {
                        self.note(&line);
                        let part = self.name.clone();
                        if line.starts_with(&up) {
                            *was_up = true;
                            self.tell(Notice::Up { part: part.clone() }).await;
                        }
                        self.tell(Notice::Line { part, line, is_error }).await;
                    }
                },
                ended = child.wait() => break ended.map_err(unwaitable)?,
                () = reached(&mut stage, ends_at), if !asked => {
                    asked = true;
                    limit.as_mut().reset(Instant::now() + self.grace);
                    terminate(&child);
                }
                () = &mut limit, if asked && !killed => {
                    killed = true;
                    child.start_kill().map_err(unwaitable)?;
                }
            }
        };
        // What it wrote last; a child of its own may hold the pipe open, and is not waited for.
        while let Ok(Some((line, is_error))) = timeout(PAUSE, written.recv()).await {
            self.note(&line);
            let part = self.name.clone();
            self.tell(Notice::Line {
                part,
                line,
                is_error,
            })
            .await;
        }
        Ok((!asked).then_some(status))
    }

    fn note(&mut self, line: &str) {
        if self.last_lines.len() == LINES_KEPT {
            self.last_lines.pop_front();
        }
        self.last_lines.push_back(line.to_owned());
    }

    async fn tell(&self, notice: Notice) {
        // Nobody hears it when all is given up.
        drop(self.notices.send(notice).await);
    }
}

async fn reached(stage: &mut watch::Receiver<usize>, at: usize) {
    // An error says that nobody is left to end it in order: it ends.
    drop(stage.wait_for(|stage| *stage >= at).await);
}

fn terminate(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw)
        && let Err(error) = kill_process(pid, Signal::TERM)
    {
        tracing::debug!(%error, "one that is gone already needs no asking");
    }
}

fn unwaitable(error: std::io::Error) -> Error {
    Error::internal("a process can't be waited for").with_source(error)
}

async fn read(from: impl AsyncRead + Unpin, is_error: bool, to: mpsc::Sender<(String, bool)>) {
    use tokio::io::AsyncReadExt as _;
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut from).take(LINE_BYTES_MAX);
        match bounded.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end_matches(['\n', '\r']).to_owned();
                if to.send((text, is_error)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Waits until whoever started this process is gone: until its standard input ends.
pub async fn parent_gone() {
    let (gone, heard) = oneshot::channel::<()>();
    // A thread of its own: one of the runtime's would keep the runtime from ending.
    std::thread::spawn(move || {
        let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop((ended, gone));
    });
    // It ends by being dropped.
    drop(heard.await);
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up { part } => write!(f, "{part} is up"),
            Self::Line { part, line, .. } => write!(f, "{part}: {line}"),
            Self::Ended {
                part,
                status,
                pause,
            } => write!(
                f,
                "{part} ended ({status}); it is started again in {pause:?}"
            ),
            Self::AllUp => f.write_str("all is up"),
        }
    }
}
