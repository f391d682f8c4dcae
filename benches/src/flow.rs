//! The workload that every engine runs: publish and confirm, deliver and acknowledge, in a closed
//! loop. An event is in flight until it is both confirmed and acknowledged; the window bounds them.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// The size of every payload.
pub const BODY_BYTES: usize = 300;

/// The state of one run.
#[derive(Debug)]
pub struct Flow {
    /// How many events may be in flight.
    pub window: u64,
    free: Mutex<u64>,
    freed: Condvar,
    freed_async: Notify,
    /// Ring of what has happened to each event: far larger than the window.
    marks: Vec<AtomicU8>,
    begun: Instant,
    published: AtomicU64,
    completed: AtomicU64,
    expected: AtomicU64,
    disorder: AtomicU64,
    stop: AtomicBool,
    measuring: AtomicBool,
    latencies: Mutex<Vec<u64>>,
}

const RING: u64 = 1 << 20;
const CONFIRMED: u8 = 1;
const ACKED: u8 = 2;

impl Flow {
    /// A run that has not begun.
    pub fn new(window: u64) -> Self {
        Self {
            window,
            free: Mutex::new(window),
            freed: Condvar::new(),
            freed_async: Notify::new(),
            marks: (0..RING).map(|_| AtomicU8::new(0)).collect(),
            begun: Instant::now(),
            published: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            disorder: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            measuring: AtomicBool::new(false),
            latencies: Mutex::new(Vec::new()),
        }
    }

    /// Takes up to `max` permits, waiting for the first; none when the run is over.
    pub fn permits(&self, max: u64) -> Option<u64> {
        let mut free = self.free.lock();
        while *free == 0 && !self.is_over() {
            self.freed.wait_for(&mut free, Duration::from_millis(100));
        }
        if self.is_over() {
            return None;
        }
        let taken = (*free).min(max);
        *free -= taken;
        Some(taken)
    }

    /// The same for tasks.
    pub async fn permits_async(&self, max: u64) -> Option<u64> {
        loop {
            if self.is_over() {
                return None;
            }
            {
                let mut free = self.free.lock();
                if *free > 0 {
                    let taken = (*free).min(max);
                    *free -= taken;
                    return Some(taken);
                }
            }
            self.freed_async.notified().await;
        }
    }

    /// Whether no more is to be published.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The next event: its number and a payload with the number and the time in it.
    pub fn next(&self) -> (u64, Vec<u8>) {
        let number = self.published.fetch_add(1, Ordering::Relaxed);
        (number, payload(number, self.nanos()))
    }

    /// The publisher was told that these events are published.
    pub fn confirmed(&self, numbers: std::ops::Range<u64>) {
        self.mark(numbers, CONFIRMED);
    }

    /// The consumer has an event; returns its number.
    pub fn received(&self, body: &[u8]) -> u64 {
        let (number, at) = read_payload(body);
        if self.measuring.load(Ordering::Relaxed) {
            self.latencies.lock().push(self.nanos().saturating_sub(at));
        }
        if self.expected.swap(number + 1, Ordering::Relaxed) != number {
            self.disorder.fetch_add(1, Ordering::Relaxed);
        }
        number
    }

    /// The consumer acknowledged these events.
    pub fn acked(&self, numbers: std::ops::Range<u64>) {
        self.mark(numbers, ACKED);
    }

    /// Warms up, measures, stops, waits for what is in flight; tells what happened.
    pub fn clock(&self, warm_up: Duration, measured: Duration, pids: &[u32]) -> serde_json::Value {
        std::thread::sleep(warm_up);
        let span = crate::Span::start(pids);
        self.measuring.store(true, Ordering::Relaxed);
        let before = self.completed.load(Ordering::Relaxed);
        std::thread::sleep(measured);
        let done = self.completed.load(Ordering::Relaxed) - before;
        let (wall, own, others) = span.stop();
        self.measuring.store(false, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
        self.freed_async.notify_one();
        let waiting = Instant::now();
        while !self.is_drained() && waiting.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut latencies = std::mem::take(&mut *self.latencies.lock());
        latencies.sort_unstable();
        let micros = |at| crate::rounded(crate::percentile(&latencies, at) as f64 / 1e3, 1);
        let count = done.max(1) as f64;
        serde_json::json!({
            "window": self.window,
            "events": done,
            "per_second": (count / wall).round(),
            "p50_us": micros(0.5),
            "p99_us": micros(0.99),
            "cpu_per_100k": crate::rounded(own / count * 1e5, 4),
            "server_cpu_per_100k": crate::rounded(others / count * 1e5, 4),
            "lost": self.published.load(Ordering::Relaxed) - self.completed.load(Ordering::Relaxed),
            "out_of_order": self.disorder.load(Ordering::Relaxed),
        })
    }

    /// Whether everything published has been confirmed and acknowledged.
    pub fn is_drained(&self) -> bool {
        self.completed.load(Ordering::Relaxed) == self.published.load(Ordering::Relaxed)
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn mark(&self, numbers: std::ops::Range<u64>, bit: u8) {
        let mut both = 0;
        for number in numbers {
            let mark = &self.marks[usize::try_from(number % RING).unwrap_or(0)];
            if mark.fetch_or(bit, Ordering::AcqRel) | bit == CONFIRMED | ACKED {
                mark.store(0, Ordering::Release);
                both += 1;
            }
        }
        if both > 0 {
            self.completed.fetch_add(both, Ordering::Relaxed);
            *self.free.lock() += both;
            self.freed.notify_one();
            self.freed_async.notify_one();
        }
    }
}

const NUMBER_AT: usize = 8;
const TIME_AT: usize = 32;

/// A JSON event of [`BODY_BYTES`]: number and time at fixed places, then what an order looks like.
pub fn payload(number: u64, nanos: u64) -> Vec<u8> {
    const REST: &[u8] = b"\",\"order_id\":\"ord-0192f0c1-7a3e-7b54-9c1d\",\"customer_id\":\"cus-004211\",\
        \"currency\":\"EUR\",\"total_minor\":12999,\"items\":[{\"sku\":\"SKU-1\",\"quantity\":2}],\"note\":\"";
    let mut body = Vec::with_capacity(BODY_BYTES);
    body.extend_from_slice(b"{\"seq\":\"");
    put_digits(&mut body, number, 16);
    body.extend_from_slice(b"\",\"ts\":\"");
    put_digits(&mut body, nanos, 20);
    body.extend_from_slice(REST);
    body.resize(BODY_BYTES - 2, b'x');
    body.extend_from_slice(b"\"}");
    body
}

fn read_payload(body: &[u8]) -> (u64, u64) {
    let digits = |at: usize, count: usize| {
        body[at..at + count]
            .iter()
            .fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'))
    };
    (digits(NUMBER_AT, 16), digits(TIME_AT, 20))
}

fn put_digits(into: &mut Vec<u8>, mut number: u64, count: usize) {
    let at = into.len();
    into.resize(at + count, b'0');
    for place in into[at..].iter_mut().rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_read_back() {
        let body = payload(1234, 987_654_321);
        assert_eq!(body.len(), BODY_BYTES);
        assert_eq!(read_payload(&body), (1234, 987_654_321));
        assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
    }
}
