//! Decides what happens on one connection: bytes and time in, bytes out.

use super::Pages;
use super::request::{MAX_HEAD, Refusal, Request, parse};
use super::response::{Response, Status};
use crate::proto::time::{Duration, Instant};

/// The time from the accept to the first byte of a head, and again from there to its end.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The time that a connection stays open between two requests. Scrapers ask every 15 to 60 s.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest time in which the client takes no byte of a response.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest time in which the client takes a whole response. It bounds a client that takes single bytes.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// The time in which the client must close after the last response.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// The most bytes that are discarded after the last response. A client that sends on is reset.
pub const MAX_DISCARDED: usize = 64 * 1024;

/// One connection of a client.
///
/// It does no I/O. Its owner makes these calls, in any order:
///
/// - [`received`](Self::received) with at most [`room`](Self::room) bytes, and [`received_end`](Self::received_end).
/// - [`answer`](Self::answer) until it returns `false`, after each of the other calls.
/// - [`sent`](Self::sent) when the client has taken bytes of [`unsent`](Self::unsent).
/// - [`expire`](Self::expire) at the [`deadline`](Self::deadline).
///
/// If it is [closing](Self::is_closing), the owner shuts the sending side down. If it is [closed](Self::is_closed), the
/// owner closes the socket.
#[derive(Debug)]
pub struct Connection {
    /// Bytes that are not yet a request, at most [`MAX_HEAD`].
    input: Vec<u8>,
    /// Whether the client has shut its sending side down.
    has_ended: bool,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Waits for a whole head.
    Reading {
        /// The time of the last response, or of the accept.
        since: Instant,
        deadline: Instant,
    },
    /// Sends a response. Nothing is received meanwhile, so a client that does not read is held back.
    Writing {
        bytes: Vec<u8>,
        /// The bytes that the client has taken, fewer than there are.
        sent: usize,
        /// Whether the response is the last one.
        is_last: bool,
        stall_deadline: Instant,
        deadline: Instant,
    },
    /// Has sent the last response, and discards what arrives. A socket that is closed with unread bytes is reset, and
    /// the client may then lose the response.
    Lingering {
        since: Instant,
        deadline: Instant,
        discarded: usize,
    },
    Closed,
}

impl Connection {
    /// Makes a connection that was accepted now.
    pub fn new(now: Instant) -> Connection {
        let phase = Phase::Reading { since: now, deadline: now + HEAD_TIMEOUT };
        Connection { input: Vec::new(), has_ended: false, phase }
    }

    /// Returns how many bytes may be received now. It is zero while a response is unsent.
    pub fn room(&self) -> usize {
        match self.phase {
            _ if self.has_ended => 0,
            Phase::Reading { .. } => MAX_HEAD - self.input.len(),
            Phase::Lingering { .. } => MAX_HEAD,
            Phase::Writing { .. } | Phase::Closed => 0,
        }
    }

    /// Takes received bytes, at most [`room`](Self::room).
    pub fn received(&mut self, bytes: &[u8], now: Instant) {
        debug_assert!(bytes.len() <= self.room());
        match &mut self.phase {
            Phase::Reading { deadline, .. } => {
                if self.input.is_empty() && !bytes.is_empty() {
                    *deadline = now + HEAD_TIMEOUT;
                }
                self.input.extend_from_slice(bytes);
            }
            Phase::Lingering { discarded, .. } => {
                *discarded += bytes.len();
                if *discarded > MAX_DISCARDED {
                    self.phase = Phase::Closed;
                }
            }
            Phase::Writing { .. } | Phase::Closed => {}
        }
    }

    /// Takes the end of what the client sends. The requests before it are still answered.
    pub fn received_end(&mut self) {
        self.has_ended = true;
        if let Phase::Lingering { .. } = self.phase {
            self.phase = Phase::Closed;
        }
    }

    /// Answers the next request if it is whole and no response is unsent. Returns whether it has.
    pub fn answer(&mut self, pages: &impl Pages, now: Instant) -> bool {
        let Phase::Reading { .. } = self.phase else { return false };
        match parse(&self.input) {
            Ok(Some((request, len))) => {
                self.input.drain(..len);
                let response = pages.respond(&request.path, &request.query);
                self.respond(response, &request, now);
            }
            Ok(None) if !self.has_ended => return false,
            Ok(None) if self.input.is_empty() => {
                self.phase = Phase::Closed;
                return false;
            }
            Ok(None) => {
                let reason = "the request ends within its head";
                self.refuse(Refusal { status: Status::BadRequest, reason }, now);
            }
            Err(refusal) => self.refuse(refusal, now),
        }
        true
    }

    fn respond(&mut self, response: Response, request: &Request, now: Instant) {
        let connection = match (request.keeps_alive, request.is_http_10) {
            (false, _) => Some("close"),
            (true, true) => Some("keep-alive"),
            (true, false) => None,
        };
        let bytes = response.encode(connection, !request.is_head);
        self.write(bytes, !request.keeps_alive, now);
    }

    /// Answers with an error. The rest of what the client sends has no meaning then.
    fn refuse(&mut self, refusal: Refusal, now: Instant) {
        let mut response = Response::text(refusal.status, format!("{}\n", refusal.reason));
        if refusal.status == Status::MethodNotAllowed {
            response = response.with_header("Allow", "GET, HEAD");
        }
        self.input = Vec::new();
        self.write(response.encode(Some("close"), true), true, now);
    }

    fn write(&mut self, bytes: Vec<u8>, is_last: bool, now: Instant) {
        debug_assert!(!bytes.is_empty());
        let (stall_deadline, deadline) = (now + STALL_TIMEOUT, now + RESPONSE_TIMEOUT);
        self.phase = Phase::Writing { bytes, sent: 0, is_last, stall_deadline, deadline };
    }

    /// Returns the bytes that the client has not taken.
    pub fn unsent(&self) -> &[u8] {
        match &self.phase {
            Phase::Writing { bytes, sent, .. } => &bytes[*sent..],
            _ => &[],
        }
    }

    /// Notes that the client has taken so many bytes of [`unsent`](Self::unsent).
    pub fn sent(&mut self, len: usize, now: Instant) {
        let Phase::Writing { bytes, sent, is_last, stall_deadline, .. } = &mut self.phase else {
            return;
        };
        debug_assert!(len <= bytes.len() - *sent);
        if len > 0 {
            *sent += len;
            *stall_deadline = now + STALL_TIMEOUT;
        }
        if *sent < bytes.len() {
            return;
        }
        self.phase = match *is_last {
            false if self.input.is_empty() => {
                Phase::Reading { since: now, deadline: now + IDLE_TIMEOUT }
            }
            // The next request has begun to arrive.
            false => Phase::Reading { since: now, deadline: now + HEAD_TIMEOUT },
            true if self.has_ended => Phase::Closed,
            true => Phase::Lingering { since: now, deadline: now + LINGER_TIMEOUT, discarded: 0 },
        };
    }

    /// Returns the time at which [`expire`](Self::expire) is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Reading { deadline, .. } | Phase::Lingering { deadline, .. } => Some(deadline),
            Phase::Writing { stall_deadline, deadline, .. } => Some(deadline.min(stall_deadline)),
            Phase::Closed => None,
        }
    }

    /// Ends what has taken until its deadline. Before that it has no effect.
    pub fn expire(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.is_within_head() {
            let reason = "the request has not arrived in time";
            self.refuse(Refusal { status: Status::RequestTimeout, reason }, now);
        } else {
            self.phase = Phase::Closed;
        }
    }

    fn is_within_head(&self) -> bool {
        matches!(self.phase, Phase::Reading { .. }) && !self.input.is_empty()
    }

    /// Returns the time since which nothing is under way, if so. Such a connection may be closed to make place.
    pub fn idle_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Reading { since, .. } if self.input.is_empty() => Some(since),
            Phase::Lingering { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Returns whether all that will be sent is sent.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Lingering { .. } | Phase::Closed)
    }

    /// Returns whether it has ended.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }
}

#[cfg(test)]
mod tests;
