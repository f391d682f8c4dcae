//! The body of an answer, which its reader reads from the connection.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::io::AsyncReadExt;

use super::super::idle::Idle;
use super::Line;
use super::chunked::{Chunked, Piece};

/// So much of a body is read at once.
const READ_BYTES: usize = 32 * 1024;

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked(Chunked),
    /// With its connection.
    UntilClosed,
    /// It has ended.
    Over,
}

impl Framing {
    pub(super) const fn chunked() -> Self {
        Self::Chunked(Chunked::new())
    }

    fn is_over(self) -> bool {
        match self {
            Self::Length(left) => left == 0,
            Self::Chunked(chunked) => chunked.is_over(),
            Self::UntilClosed => false,
            Self::Over => true,
        }
    }
}

/// An answer's body.
pub(in super::super) struct Answer {
    framing: Framing,
    /// What was read and not given yet.
    held: BytesMut,
    /// What came with the head, where it is the whole body.
    whole: Bytes,
    line: Option<Line>,
    /// Where the connection goes afterwards, if it takes another request.
    home: Option<Arc<Idle<Line>>>,
}

impl Answer {
    /// A body of which this was read with the head.
    pub(super) fn new(
        line: Line,
        framing: Framing,
        rest: Bytes,
        home: Option<Arc<Idle<Line>>>,
    ) -> Self {
        let mut answer = Self {
            framing,
            held: BytesMut::new(),
            whole: Bytes::new(),
            line: Some(line),
            home,
        };
        match framing {
            // Nearly all are there with their heads.
            Framing::Length(length) if length == rest.len() as u64 => {
                answer.whole = rest;
                answer.framing = Framing::Over;
                answer.give_back();
            }
            _ => answer.held = BytesMut::from(rest),
        }
        answer
    }

    /// The body has ended: its connection is kept, if it takes another request and nothing came that nobody asked for.
    fn give_back(&mut self) {
        let line = self.line.take().filter(|_| self.held.is_empty());
        if let (Some(line), Some(home)) = (line, self.home.take()) {
            home.put(line);
        }
    }

    /// What comes next of what was read.
    fn next(&mut self) -> io::Result<Piece> {
        match &mut self.framing {
            Framing::Over | Framing::Length(0) => Ok(Piece::End),
            Framing::Chunked(chunked) => chunked.take(&mut self.held),
            Framing::Length(_) | Framing::UntilClosed if self.held.is_empty() => Ok(Piece::Unread),
            Framing::UntilClosed => Ok(Piece::Data(self.held.split().freeze())),
            Framing::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX);
                let data = self.held.split_to(taken.min(self.held.len())).freeze();
                *left -= data.len() as u64;
                Ok(Piece::Data(data))
            }
        }
    }

    /// Reads on, and says how much came: nothing at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(line) = &mut self.line else {
            return Poll::Ready(Ok(0));
        };
        let more = match self.framing {
            Framing::Length(left) => usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES),
            _ => READ_BYTES,
        };
        self.held.reserve(more);
        pin!(line.stream.read_buf(&mut self.held)).poll(cx)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Piece>> {
        loop {
            match self.next()? {
                Piece::Unread => {}
                piece => return Poll::Ready(Ok(piece)),
            }
            if ready!(self.poll_read(cx))? == 0 {
                if self.framing != Framing::UntilClosed {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                self.framing = Framing::Over;
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if !this.whole.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.whole)))));
        }
        let piece = ready!(this.poll_piece(cx));
        if piece.is_err() {
            this.line = None;
            this.framing = Framing::Over;
        }
        if this.framing.is_over() {
            this.give_back();
        }
        Poll::Ready(match piece {
            Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(Piece::End | Piece::Unread) => None,
            Err(error) => Some(Err(error)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.whole.is_empty() && self.framing.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Over => SizeHint::with_exact(self.whole.len() as u64),
            Framing::Length(left) => SizeHint::with_exact(left),
            Framing::Chunked(_) | Framing::UntilClosed => SizeHint::default(),
        }
    }
}
