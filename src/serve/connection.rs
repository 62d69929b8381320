//! Connections, and how long one may stall.
//!
//! actix bounds the time of an idle connection, and nothing else: a peer that does not read, or that sends a head byte by
//! byte, would keep a connection without end. [`Connection`] wraps the stream that actix reads and writes. What actix
//! refuses by itself, without a body, becomes a problem document here.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use actix_web::rt::net::TcpStream;
use actix_web::web::Data;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::framing::Framing;
use super::places::{Bounds, Place, Places};
use super::refusal;
use crate::config::Config;
use crate::error::Code;
use crate::http::{AwaitedBody, Sampler, UntilClose};
use crate::metrics::Metrics;
use crate::telemetry::TraceContext;

/// Bytes that a peer must take within the time-out of a write.
const PROGRESS: usize = 32 * 1024;

/// Bytes that are read before others have their turn, and of a body before somebody wants it. actix reads as long as there
/// is something to read and room in its buffer, which it makes the larger the more it reads, and keeps.
const TURN: usize = 8 * 1024;

/// Time that a head has from its first byte to its end.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest number of times that something is read only to be thrown away.
const DISCARDED: u32 = 256;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Gives connections their places and their time-outs.
#[derive(Clone)]
pub(super) struct Connections {
    limits: Arc<Limits>,
    places: Arc<Places>,
    sampler: Data<Sampler>,
}

struct Limits {
    /// For the links in problem documents.
    public_url: String,
    /// Time-out of a peer that does not read.
    write: Duration,
    /// Time from a request's first byte to the first byte of its answer.
    answer: Duration,
    /// Time from an answer to the end of a body that it did not wait for.
    body: Duration,
}

impl Connections {
    /// For a listener that may have so many connections.
    pub(super) fn new(config: &Config, in_all: usize, metrics: &Metrics, sampler: Data<Sampler>) -> Self {
        let limits = Limits {
            public_url: config.public_url.clone(),
            write: config.write_timeout,
            answer: config.body_timeout + config.write_timeout,
            body: config.body_timeout,
        };
        let (per_address, trusted_proxies) =
            (config.limits.connections_per_address, config.limits.trusted_proxies.clone());
        let places = Places::new(Bounds { in_all, per_address, trusted_proxies }, metrics);
        Self { limits: Arc::new(limits), places, sampler }
    }

    /// Accepts a connection, unless its address has too many.
    ///
    /// # Errors
    /// When it has, or when the peer has gone already.
    pub(super) fn accept(&self, stream: TcpStream) -> io::Result<(Connection, Option<SocketAddr>)> {
        let peer = stream.peer_addr()?;
        let place = self.places.take(peer.ip().to_canonical()).ok_or(io::ErrorKind::QuotaExceeded)?;
        let look = Box::pin(sleep(self.limits.write / 4));
        let connection = Connection {
            stream,
            limits: Arc::clone(&self.limits),
            blocked_since: None,
            taken: 0,
            unanswered_since: None,
            framing: Framing::default(),
            next: Bytes::new(),
            head_since: None,
            refused: None,
            awaited_body: AwaitedBody::default(),
            until_close: UntilClose::default(),
            outgoing: Bytes::new(),
            in_progress: false,
            answered_early: false,
            has_written: false,
            read_put_off: false,
            read_in_turn: 0,
            read_of_body: 0,
            look,
            sampler: self.sampler.clone(),
            place,
        };
        Ok((connection, Some(peer)))
    }
}

/// A connection that ends when its peer stalls.
///
/// - Requests are handed to actix one by one: the next one after the answer to the last one was written.
/// - While a write waits for the peer, nothing is read. The peer must take [`PROGRESS`] bytes, or all there are, within
///   the time-out.
/// - A head must be complete within [`HEAD_TIMEOUT`] of its first byte.
/// - From the first byte that the peer sends to the first byte of an answer, no more time may pass than a body and its
///   request may take; from an answer to the end of a body that it did not wait for, no more than a body.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and any of them go together")]
pub(super) struct Connection {
    stream: TcpStream,
    limits: Arc<Limits>,
    /// Since when a write waits for the peer, which has made no progress since.
    blocked_since: Option<Instant>,
    /// Bytes that the peer took since.
    taken: usize,
    /// Since when bytes were read without one being written, or since when the rest of a body is awaited that is answered.
    unanswered_since: Option<Instant>,
    framing: Framing,
    /// What the peer has sent of the next request already.
    next: Bytes,
    /// Since when a head has begun that is not complete.
    head_since: Option<Instant>,
    /// The code of the connection's last answer: nothing more is read.
    refused: Option<Code>,
    /// Whether the peer waits for `100 Continue`.
    awaited_body: AwaitedBody,
    /// Whether an answer ends with the connection.
    until_close: UntilClose,
    /// What goes to the peer before anything else.
    outgoing: Bytes,
    /// Whether actix has a whole request that is not answered.
    in_progress: bool,
    /// Whether the request whose body is still coming was answered already, as one that is refused by its head is.
    answered_early: bool,
    /// Whether bytes were written since the last flush.
    has_written: bool,
    /// Whether there is something to read that was put off.
    read_put_off: bool,
    /// Bytes that were read since others had their turn.
    read_in_turn: usize,
    /// Bytes that were read of the request's body.
    read_of_body: usize,
    /// Wakes the connection's task to look at the time.
    look: Pin<Box<Sleep>>,
    sampler: Data<Sampler>,
    place: Place,
}

impl Connection {
    /// Where a handler says that it wants the body.
    pub(super) fn awaited_body(&self) -> AwaitedBody {
        self.awaited_body.clone()
    }

    /// Where it is noted that an answer ends with the connection.
    pub(super) fn until_close(&self) -> UntilClose {
        self.until_close.clone()
    }

    /// Pending, or an error when the peer has stalled for too long.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        // An idle connection is not woken: actix would begin its time anew.
        let is_timed = self.blocked_since.or(self.unanswered_since).or(self.head_since).is_some();
        while is_timed && self.look.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let over = |since: Option<Instant>, limit| since.is_some_and(|since| now.duration_since(since) >= limit);
            let unanswered = if self.answered_early { self.limits.body } else { self.limits.answer };
            if over(self.blocked_since, self.limits.write) || over(self.unanswered_since, unanswered) {
                self.place.metrics().connections_ended.with_label_values(&["stalled"]).inc();
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            if over(self.head_since, HEAD_TIMEOUT) {
                self.place.metrics().connections_ended.with_label_values(&["stalled"]).inc();
                self.refuse(Code::RequestTimeout);
            }
            let head = self.head_since.map(|since| since + HEAD_TIMEOUT).filter(|end| *end > now);
            let next = now + self.limits.write / 4;
            self.look.as_mut().reset(head.map_or(next, |end| end.min(next)).into());
        }
        Poll::Pending
    }

    /// Puts a problem document where actix has no answer, or one without a body.
    fn refuse(&mut self, code: Code) {
        self.refused = Some(code);
        self.head_since = None;
        let trace = TraceContext::alone();
        self.outgoing = refusal::problem(code, &self.limits.public_url, trace.trace_id());
        self.place.metrics().answered(("other", "unmatched"), &code.status().to_string(), Duration::ZERO);
        if let Some(left_out) = self.sampler.take_refusal() {
            TraceContext::scope_of(Some(trace), || {
                tracing::info!(
                    http.status = code.status(),
                    error.code = code.slug(),
                    log.left_out = left_out,
                    "no request"
                );
            });
        }
    }

    /// Writes what goes before anything else.
    fn poll_outgoing(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(context, &self.outgoing) else {
                self.blocked_since.get_or_insert_with(Instant::now);
                return self.wait(context);
            };
            self.outgoing.advance(written?);
        }
        Poll::Ready(Ok(()))
    }

    /// Throws away what has arrived: a connection that is closed with something unread is reset, and its peer may not
    /// get to see the answer.
    fn discard(&mut self, context: &mut Context<'_>) {
        let mut scratch = [0; 4_096];
        for _ in 0..DISCARDED {
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
            if !matches!(read, Poll::Ready(Ok(()))) || buffer.filled().is_empty() {
                return;
            }
        }
    }

    /// Looks at what was read: where the request ends, and what its head says.
    fn judge(&mut self, read: &mut [u8]) -> Option<usize> {
        let end = self.framing.end(read);
        self.unanswered_since.get_or_insert_with(Instant::now);
        if self.framing.take_expectation() {
            self.awaited_body.set(true);
        }
        if end.is_some() {
            // The body is here already.
            self.awaited_body.set(false);
        }
        if self.framing.is_in_head() && end.is_none() {
            if self.head_since.is_none() {
                let now = Instant::now();
                self.head_since = Some(now);
                self.look.as_mut().reset((now + HEAD_TIMEOUT.min(self.limits.write / 4)).into());
            }
        } else {
            self.head_since = None;
        }
        end
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.refused.is_some() || self.framing.flaw().is_some() {
            return Poll::Ready(Ok(()));
        }
        if self.blocked_since.is_some() || self.in_progress {
            self.read_put_off = !self.next.is_empty() || self.stream.poll_read_ready(context).is_ready();
            return self.wait(context);
        }
        // The end, as actix sees it, of a peer that makes room for another one.
        if self.place.must_go(context.waker()) {
            return Poll::Ready(Ok(()));
        }
        let is_unwanted = self.framing.is_in_body() && self.read_of_body >= TURN && !self.answered_early;
        if is_unwanted && !self.awaited_body.is_wanted(context.waker()) {
            return self.wait(context);
        }
        if self.read_in_turn >= TURN {
            self.read_in_turn = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let is_next = !self.next.is_empty();
        if is_next {
            let length = self.next.len().min(buffer.remaining());
            buffer.put_slice(self.next.get(..length).unwrap_or_default());
        } else {
            let room = TURN - self.read_in_turn;
            let outcome = if buffer.remaining() <= room {
                Pin::new(&mut self.stream).poll_read(context, buffer)
            } else {
                let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
                let outcome = Pin::new(&mut self.stream).poll_read(context, &mut part);
                let length = part.filled().len();
                buffer.advance(length);
                outcome
            };
            match outcome {
                Poll::Pending => {
                    self.read_in_turn = 0;
                    let waiting = self.wait(context);
                    // The end, as actix sees it, of a peer whose head never came.
                    return if self.refused.is_some() { Poll::Ready(Ok(())) } else { waiting };
                }
                Poll::Ready(outcome) => outcome?,
            }
        }
        let read = buffer.filled_mut().get_mut(before..).unwrap_or_default();
        if read.is_empty() {
            // The peer has sent all it wanted.
            return Poll::Ready(Ok(()));
        }
        let end = self.judge(read);
        if let Some(code) = self.framing.flaw() {
            // actix sees the end of a peer: of a body, behind what was right, and its handler answers; of a head, at once.
            if end.is_none() {
                self.refuse(code);
            }
            buffer.set_filled(before + end.unwrap_or(0));
            return Poll::Ready(Ok(()));
        }
        let length = match end {
            Some(end) => {
                // After an early answer nothing is awaited: what comes next, the peer's end above all, is read at once.
                if std::mem::take(&mut self.answered_early) {
                    self.unanswered_since = None;
                    self.awaited_body.end();
                } else {
                    self.in_progress = true;
                    self.place.set_busy(true);
                }
                if !is_next {
                    self.next = Bytes::copy_from_slice(read.get(end..).unwrap_or_default());
                }
                end
            }
            None => read.len(),
        };
        if is_next {
            self.next.advance(length);
        }
        buffer.set_filled(before + length);
        self.read_in_turn += length;
        self.read_of_body = if self.framing.is_in_body() { self.read_of_body + length } else { 0 };
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let (own, code) = refusal::split(bytes);
        if let (true, Some(code)) = (own.is_empty(), code) {
            // A connection that was idle, or whose last request is answered, just ends.
            if self.refused.is_none() && self.unanswered_since.is_some() {
                self.refuse(code);
            }
            ready!(self.poll_outgoing(context))?;
            self.discard(context);
            return Poll::Ready(Ok(bytes.len()));
        }
        self.awaited_body.set(false);
        ready!(self.poll_outgoing(context))?;
        match Pin::new(&mut self.stream).poll_write(context, own) {
            Poll::Pending => {
                self.blocked_since.get_or_insert_with(Instant::now);
                self.wait(context)
            }
            Poll::Ready(outcome) => {
                self.unanswered_since = None;
                self.has_written = true;
                if self.blocked_since.is_some() {
                    self.taken += outcome.as_ref().copied().unwrap_or(0);
                    if self.taken >= PROGRESS {
                        self.taken = 0;
                        self.blocked_since = Some(Instant::now());
                    }
                }
                // A refusal behind an answer has no request of its own.
                Poll::Ready(outcome.map(|written| if written == own.len() { bytes.len() } else { written }))
            }
        }
    }

    /// actix flushes when its buffer is empty: the peer has taken everything.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.awaited_body.take_wanted() {
            self.outgoing = Bytes::from_static(CONTINUE);
        }
        ready!(self.poll_outgoing(context))?;
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        let was_blocked = self.blocked_since.take().is_some();
        self.taken = 0;
        let has_written = std::mem::take(&mut self.has_written);
        let is_answered = has_written && std::mem::take(&mut self.in_progress);
        if is_answered {
            self.place.set_busy(false);
            self.awaited_body.end();
        } else if has_written && self.framing.is_in_body() {
            self.answered_early = true;
            // The peer may not send it, and be gone for all that is known.
            let since = *self.unanswered_since.get_or_insert_with(Instant::now);
            let soon = self.limits.body.min(self.limits.write / 4);
            self.look.as_mut().reset((since + soon).into());
            // What nobody wanted is read to its end.
            context.waker().wake_by_ref();
        }
        if (was_blocked || is_answered) && std::mem::take(&mut self.read_put_off) {
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    /// actix shuts down what is written to its end; what broke off is dropped.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.until_close.end();
        if self.framing.flaw().is_some() {
            self.discard(context);
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// An answer that ends with the connection, and broke off, ends with a reset: an export must not pass for complete.
impl Drop for Connection {
    fn drop(&mut self) {
        if self.until_close.is_open() {
            drop(self.stream.set_zero_linger());
        }
    }
}
