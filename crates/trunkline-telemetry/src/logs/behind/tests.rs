use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Where lines go: each batch is heard of; while the gate is locked nothing is written.
struct Sink {
    said: Sender<String>,
    gate: Arc<Mutex<()>>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _open = self.gate.lock();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        self.said.send(text).unwrap_or_default();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn behind(bounds: Bounds) -> (LogWriter, Receiver<String>, Arc<Mutex<()>>) {
    let (said, heard) = channel();
    let gate = Arc::<Mutex<()>>::default();
    let sink = Sink {
        said,
        gate: gate.clone(),
    };
    let behind = Behind::start(Format::Json, bounds, sink).unwrap();
    (LogWriter(behind), heard, gate)
}

fn gathers(gather: Duration) -> Bounds {
    Bounds {
        gather,
        ..Bounds::default()
    }
}

#[test]
fn lines_are_written_together_in_their_order_and_none_is_lost_at_the_end() {
    let (logs, heard, _) = behind(gathers(HOUR));
    let all: Vec<String> = (0..1_000).map(|n| format!("line {n}\n")).collect();
    for line in &all {
        logs.0.add(line.as_bytes(), false);
    }
    let later = logs.0.clone();
    drop(logs);
    let batches: Vec<String> = heard.try_iter().collect();
    assert_eq!(batches.concat(), all.concat());
    assert_eq!(batches.len(), 1, "they wait for each other");
    later.add(b"later\n", false);
    assert_eq!(heard.try_recv().unwrap(), "later\n", "at once");
}

#[test]
fn a_line_waits_for_others_only_so_long_and_for_so_much() {
    let (logs, heard, _) = behind(gathers(Duration::from_millis(1)));
    logs.0.add(b"alone\n", false);
    assert_eq!(heard.recv_timeout(WAIT_MAX).unwrap(), "alone\n");

    let (logs, heard, _) = behind(Bounds {
        batch_bytes: 10,
        ..gathers(HOUR)
    });
    logs.0.add(b"12345\n", false);
    logs.0.add(b"6789\n", false);
    assert_eq!(heard.recv_timeout(WAIT_MAX).unwrap(), "12345\n6789\n");
}

#[test]
fn what_is_urgent_waits_for_nobody() {
    let (logs, heard, _) = behind(gathers(HOUR));
    logs.0.add(b"before\n", false);
    logs.0.add(b"an error\n", true);
    assert_eq!(heard.recv_timeout(WAIT_MAX).unwrap(), "before\nan error\n");
}

#[test]
fn the_level_says_what_is_urgent() {
    let (logs, heard, _) = behind(gathers(HOUR));
    let subscriber = tracing_subscriber::fmt()
        .with_writer(logs.0.clone())
        .event_format(lines::Lines::new(Format::Json))
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!("first");
        assert!(heard.recv_timeout(Duration::from_millis(50)).is_err());
        tracing::warn!("second");
    });
    let said = heard.recv_timeout(WAIT_MAX).unwrap();
    assert!(
        said.contains("\"first\"") && said.contains("\"second\""),
        "{said}"
    );
}

#[test]
fn nobody_waits_for_a_reader_and_what_is_too_much_is_counted_and_said_once() {
    let bounds = Bounds {
        held_bytes_max: 100,
        reserve_bytes: 20,
        batch_bytes: 1,
        ..gathers(HOUR)
    };
    let (logs, heard, gate) = behind(bounds);
    let shut = gate.lock();
    logs.0.add(b"first\n", false);
    // The thread has taken it, and waits for its reader.
    while !logs.0.state().is_writing {
        thread::yield_now();
    }
    for _ in 0..30 {
        logs.0.add(b"123456789\n", false);
    }
    logs.0.add(b"an error\n", true);
    assert!(!logs.0.flush(Duration::from_millis(1)), "nobody reads");
    drop(shut);
    assert!(logs.flush());
    let all: Vec<String> = heard.try_iter().collect();
    let [first, held, told] = &*all else {
        panic!("{all:?}");
    };
    assert_eq!(first, "first\n");
    assert_eq!(*held, "123456789\n".repeat(10) + "an error\n");
    let told: serde_json::Value = serde_json::from_str(told).unwrap();
    assert_eq!(told["lines"], 20);
    assert_eq!(told["level"], "WARN");
}

#[test]
fn whoever_panics_has_written_what_was_said_before() {
    let (logs, heard, _) = behind(gathers(HOUR));
    logs.0.write_on_panic();
    logs.0.add(b"the last word\n", false);
    let panicked = thread::spawn(|| panic!("on purpose")).join();
    assert!(panicked.is_err());
    assert_eq!(heard.try_recv().unwrap(), "the last word\n");
}
