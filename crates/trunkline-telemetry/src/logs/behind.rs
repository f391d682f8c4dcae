//! Lines that a thread of their own writes, so that nobody who has one to say waits for it.

use std::fmt;
use std::io::{self, Write};
use std::panic;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use metrics::counter;
use parking_lot::{Condvar, Mutex};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use trunkline_core::{Env, Error, Result};

use super::{Format, lines};

/// What is held before it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// A line waits at most so long for others to be written with.
    pub(super) gather: Duration,
    /// With so much it waits no longer.
    pub(super) batch_bytes: usize,
    /// Beyond this lines are dropped, and counted.
    pub(super) held_bytes_max: usize,
    /// But for warnings and errors, which have this besides.
    pub(super) reserve_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            gather: Duration::from_millis(50),
            // By the byte a write of this size costs half of one of 64 KiB.
            batch_bytes: 256 * 1024,
            held_bytes_max: 4 * 1024 * 1024,
            reserve_bytes: 256 * 1024,
        }
    }
}

/// Whoever stops or panics waits at most so long until what is held is written.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);
const PANIC_WITHIN: Duration = Duration::from_millis(250);
/// The thread's name.
const NAME: &str = "logs";

/// Log lines that a thread of their own writes; see [`init_logs_behind`](super::init_logs_behind).
///
/// Dropped, it waits until what is held is written, at most 5 s; a line after that is written by whoever has it.
#[must_use = "dropped, it writes what is held, and every later line at once"]
pub struct LogWriter(pub(super) Behind);

impl LogWriter {
    /// Waits until what is held now is written, at most 5 s, and tells whether it is.
    pub fn flush(&self) -> bool {
        self.0.flush(FLUSH_WITHIN)
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.0.state().is_closed = true;
        self.0.flush(FLUSH_WITHIN);
    }
}

/// Takes lines and gives them to the thread that writes them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Behind(Arc<Inner>);

struct Inner {
    bounds: Bounds,
    format: Format,
    env: Env,
    state: Mutex<State>,
    /// There is something to write, or somebody who waits for that.
    work: Condvar,
    /// Something is written.
    written: Condvar,
    to: Mutex<Box<dyn Write + Send>>,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// Lines that found no room since the last batch.
    dropped: u64,
    /// Something in it can't wait for others.
    is_urgent: bool,
    is_writing: bool,
    is_closed: bool,
}

impl Behind {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// `Internal` where there can be no more threads.
    pub(super) fn start(
        format: Format,
        bounds: Bounds,
        to: impl Write + Send + 'static,
    ) -> Result<Self> {
        let behind = Self(Arc::new(Inner {
            bounds,
            format,
            env: Env::system(),
            state: Mutex::default(),
            work: Condvar::new(),
            written: Condvar::new(),
            to: Mutex::new(Box::new(to)),
        }));
        let writing = behind.clone();
        thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(move || writing.write_on())
            .map_err(|error| {
                Error::internal("log lines have no thread to write them").with_source(error)
            })?;
        Ok(behind)
    }

    /// Has whoever panics write what was said before.
    pub(super) fn write_on_panic(&self) {
        let (behind, next) = (self.clone(), panic::take_hook());
        panic::set_hook(Box::new(move |info| {
            behind.flush(PANIC_WITHIN);
            next(info);
        }));
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, State> {
        self.0.state.lock()
    }

    /// Takes a line. Nobody waits here but for who is about to take another one.
    fn add(&self, line: &[u8], is_urgent: bool) {
        let bounds = &self.0.bounds;
        let mut state = self.state();
        if state.is_closed {
            drop(state);
            // Where nobody reads it there is nobody to tell.
            return drop(self.0.to.lock().write_all(line));
        }
        let reserve = if is_urgent { bounds.reserve_bytes } else { 0 };
        let before = state.lines.len();
        if before + line.len() > bounds.held_bytes_max + reserve {
            state.dropped += 1;
            return;
        }
        state.lines.extend_from_slice(line);
        let is_full = before < bounds.batch_bytes && state.lines.len() >= bounds.batch_bytes;
        let wakes = before == 0 || is_full || is_urgent && !state.is_urgent;
        state.is_urgent |= is_urgent;
        drop(state);
        if wakes {
            self.0.work.notify_one();
        }
    }

    /// Writes until it is closed and nothing is left.
    fn write_on(&self) {
        let mut batch = Vec::new();
        while let Some(dropped) = self.next(&mut batch) {
            let mut to = self.0.to.lock();
            // Where nobody reads it there is nobody to tell.
            drop(to.write_all(&batch));
            if dropped > 0 {
                counter!("trunkline_log_lines_dropped_total").increment(dropped);
                let told = lines::dropped(self.0.format, self.0.env.now(), dropped);
                drop(to.write_all(told.as_bytes()));
            }
        }
    }

    /// What is to be written next, in place of what was, and how many lines are missing behind it.
    fn next(&self, batch: &mut Vec<u8>) -> Option<u64> {
        batch.clear();
        let bounds = &self.0.bounds;
        // What one burst took is not kept.
        batch.shrink_to(2 * bounds.batch_bytes);
        let mut state = self.state();
        state.is_writing = false;
        self.0.written.notify_all();
        let work = &self.0.work;
        work.wait_while(&mut state, |state| {
            state.lines.is_empty() && !state.is_closed
        });
        let waits = |state: &mut State| {
            !state.is_urgent && !state.is_closed && state.lines.len() < bounds.batch_bytes
        };
        work.wait_while_for(&mut state, waits, bounds.gather);
        if state.lines.is_empty() {
            return None;
        }
        std::mem::swap(batch, &mut state.lines);
        state.is_urgent = false;
        state.is_writing = true;
        Some(std::mem::take(&mut state.dropped))
    }

    /// Waits until what is held is written, and tells whether it is.
    fn flush(&self, within: Duration) -> bool {
        // Whoever writes can't wait for itself.
        if thread::current().name() == Some(NAME) {
            return false;
        }
        let Some(mut state) = self.0.state.try_lock_for(within) else {
            return false;
        };
        state.is_urgent = !state.lines.is_empty();
        self.0.work.notify_one();
        let is_held = |state: &mut State| state.is_writing || !state.lines.is_empty();
        let waited = self.0.written.wait_while_for(&mut state, is_held, within);
        !waited.timed_out()
    }
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter").finish_non_exhaustive()
    }
}

/// Gives one line to the thread.
pub(super) struct OneLine<'a> {
    behind: &'a Behind,
    is_urgent: bool,
}

impl<'a> MakeWriter<'a> for Behind {
    type Writer = OneLine<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine {
            behind: self,
            is_urgent: false,
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Self::Writer {
        OneLine {
            behind: self,
            is_urgent: *meta.level() <= Level::WARN,
        }
    }
}

impl Write for OneLine<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.behind.add(line, self.is_urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
