//! What a client of HTTP/2 sends beside its requests.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::writes::writes_by_inner;

/// A client that sends more frames of no use than this within [`WINDOW`] is cut off.
const USELESS_MAX: u32 = 10_000;
/// A client that takes back more requests than this within [`WINDOW`] is cut off, if they are more than half of all.
const RESETS_MAX: u32 = 1_000;
const WINDOW: Duration = Duration::from_secs(10);

/// A client says this before its first frame (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
/// Of DATA: the last frame; of SETTINGS and PING: an answer to ours.
const END_OR_ACK: u8 = 1;

/// Reads along and fails where a client keeps the gateway busy with frames that bring nothing: settings and pings to be
/// answered, priorities, empty data, and requests that are taken back at once.
///
/// # Source
/// CVE-2019-9512, 9513, 9515, 9518 and CVE-2023-44487.
pub(super) struct Frames<S> {
    inner: S,
    /// How much of a preface or of a frame's payload is still to come.
    skip: usize,
    /// The beginning of a frame's head.
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    counts: Counts,
    heard: Arc<AtomicU64>,
}

#[derive(Default)]
struct Counts {
    since: Option<Instant>,
    useless: u32,
    resets: u32,
    requests: u32,
}

impl<S> Frames<S> {
    /// A connection that begins with the preface.
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            skip: PREFACE.len(),
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            counts: Counts::default(),
            heard: Arc::default(),
        }
    }

    /// Changes whenever something comes.
    pub(super) fn heard(&self) -> Arc<AtomicU64> {
        self.heard.clone()
    }

    fn look(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let wanted = HEAD_BYTES - self.head_bytes;
            let (head, rest) = bytes.split_at_checked(wanted).unwrap_or((bytes, &[]));
            let end = self.head_bytes + head.len();
            if let Some(place) = self.head.get_mut(self.head_bytes..end) {
                place.copy_from_slice(head);
            }
            self.head_bytes = end;
            bytes = rest;
            if self.head_bytes == HEAD_BYTES {
                self.head_bytes = 0;
                let [high, middle, low, kind, flags, ..] = self.head;
                self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.counts.count(kind, flags, self.skip == 0)?;
            }
        }
        Ok(())
    }
}

impl Counts {
    fn count(&mut self, kind: u8, flags: u8, is_empty: bool) -> io::Result<()> {
        let is_flagged = flags & END_OR_ACK != 0;
        match kind {
            HEADERS => {
                self.requests = self.requests.saturating_add(1);
                return Ok(());
            }
            RESET => self.resets += 1,
            PRIORITY => self.useless += 1,
            SETTINGS | PING if !is_flagged => self.useless += 1,
            DATA if is_empty && !is_flagged => self.useless += 1,
            _ => return Ok(()),
        }
        let since = *self.since.get_or_insert_with(|| {
            self.requests = 1;
            Instant::now()
        });
        if self.useless <= USELESS_MAX && self.resets <= RESETS_MAX {
            return Ok(());
        }
        if since.elapsed() >= WINDOW {
            *self = Self::default();
            return Ok(());
        }
        if self.useless <= USELESS_MAX && self.resets <= self.requests / 2 {
            return Ok(());
        }
        Err(io::Error::other("the client floods the connection"))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        std::task::ready!(Pin::new(&mut this.inner).poll_read(cx, into))?;
        this.heard.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(this.look(into.filled().get(before..).unwrap_or_default()))
    }
}

writes_by_inner!(Frames);

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        // Payload that looks like the head of another frame.
        frame.extend([RESET].repeat(payload));
        frame
    }

    fn frames() -> Frames<()> {
        let mut frames = Frames::new(());
        frames.look(PREFACE).unwrap();
        frames
    }

    /// How many of these frames are taken.
    fn taken(frames: &mut Frames<()>, kinds: &[Vec<u8>]) -> u32 {
        for count in 0..USELESS_MAX * 3 {
            for frame in kinds {
                if frames.look(frame).is_err() {
                    return count;
                }
            }
        }
        u32::MAX
    }

    #[tokio::test(start_paused = true)]
    async fn floods_of_what_brings_nothing_end_and_what_is_of_use_does_not() {
        let useless = [
            frame(SETTINGS, 0, 0),
            frame(PING, 0, 8),
            frame(PRIORITY, 0, 5),
            frame(DATA, 0, 0),
        ];
        for one in useless {
            assert_eq!(taken(&mut frames(), &[one]), USELESS_MAX);
        }
        for one in [
            frame(SETTINGS, END_OR_ACK, 0),
            frame(PING, END_OR_ACK, 8),
            frame(DATA, END_OR_ACK, 0),
            frame(DATA, 0, 100),
            frame(HEADERS, 4, 30),
        ] {
            assert_eq!(taken(&mut frames(), &[one]), u32::MAX);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_are_taken_back_end_the_connection_unless_they_are_few() {
        let (request, reset) = (frame(HEADERS, 5, 30), frame(RESET, 0, 4));
        let rapid = [request.clone(), reset.clone()];
        assert_eq!(taken(&mut frames(), &rapid), RESETS_MAX);
        let some = [request.clone(), request.clone(), request, reset];
        assert_eq!(taken(&mut frames(), &some), u32::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_slowly_is_no_flood_and_pieces_make_no_difference() {
        let mut slow = frames();
        let pings = frame(PING, 0, 8).repeat(usize::try_from(USELESS_MAX).unwrap());
        for piece in pings.chunks(7) {
            slow.look(piece).unwrap();
        }
        tokio::time::advance(WINDOW).await;
        for piece in pings.chunks(13) {
            slow.look(piece).unwrap();
        }
        slow.look(&frame(PING, 0, 8)).unwrap();
        assert_eq!(taken(&mut slow, &[frame(PING, 0, 8)]), 0);
    }
}
