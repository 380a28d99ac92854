//! Decides which address of a server an attempt tries, and when.
//!
//! An attempt tries all addresses of a name as [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305) (Happy
//! Eyeballs) specifies. The address families take turns. The next address is tried after a short delay, or as
//! soon as the last one has failed. No socket is closed before the attempt ends. The first to connect wins.
//! So a server is reachable despite a broken IPv6 or a long path.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::proto::connection_error::ConnectionError;
use crate::proto::socket_id::SocketId;
use crate::proto::time::{Duration, Instant};

/// The delay from the start of one address to the start of the next.
///
/// It is the recommended Connection Attempt Delay of RFC 8305, section 5. It is cut short when the first of
/// the two addresses fails.
pub(crate) const CONNECTION_ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The most sockets that one attempt has open at once.
///
/// The limit leaves descriptors to other servers when a name has hundreds of silent addresses.
pub(crate) const MAX_OPEN_SOCKETS: usize = 64;

/// One attempt to connect to a server.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The addresses that are not tried yet, in their order.
    untried: VecDeque<SocketAddr>,
    /// The sockets that are connecting, in the order of their start.
    open: Vec<(SocketId, SocketAddr)>,
    failed: Vec<(SocketAddr, ConnectionError)>,
    /// The moment at which the attempt began.
    since: Instant,
    /// The moment at which the next address is due. It has no meaning without a next address.
    next_at: Instant,
    /// The time from the start of one address to the start of the next.
    delay: Duration,
    /// The moment at which the attempt ends.
    deadline: Instant,
}

impl Attempt {
    /// Starts an attempt at `addresses`. The first of them is due immediately.
    ///
    /// The delay between two addresses is at most [`CONNECTION_ATTEMPT_DELAY`]. It is shorter if the last
    /// address would otherwise be tried in the second half of the attempt.
    pub(crate) fn new(addresses: Vec<SocketAddr>, now: Instant, deadline: Instant) -> Attempt {
        let untried = interleave(addresses);
        // Most servers have one address. A vector that grows would begin with memory for four sockets.
        let open = Vec::with_capacity(untried.len().min(MAX_OPEN_SOCKETS + 1));
        let half = deadline.saturating_duration_since(now) / 2;
        let delay = half / (untried.len() as u64).saturating_sub(1).max(1);
        let delay = delay.min(CONNECTION_ATTEMPT_DELAY);
        Attempt { untried, open, failed: Vec::new(), since: now, next_at: now, delay, deadline }
    }

    /// Returns how long the attempt has lasted.
    pub(crate) fn span(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Returns the moment of the next action, unless a socket connects or fails earlier.
    pub(crate) fn wake_at(&self) -> Instant {
        if self.untried.is_empty() { self.deadline } else { self.deadline.min(self.next_at) }
    }

    /// Returns whether the deadline has passed.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.deadline <= now
    }

    /// Returns whether each address has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.untried.is_empty() && self.open.is_empty()
    }

    /// Takes the next address if it is due.
    ///
    /// The caller opens a socket, reports it to [`opened`](Attempt::opened), and calls this again.
    pub(crate) fn next_address(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.next_at > now {
            return None;
        }
        let address = self.untried.pop_front()?;
        self.next_at = now.saturating_add(self.delay);
        Some(address)
    }

    /// Adds the socket that the caller has opened to `address`.
    ///
    /// Returns a socket to close if there are more than [`MAX_OPEN_SOCKETS`]. It is the oldest one, as that
    /// has had the most time to connect.
    pub(crate) fn opened(&mut self, socket: SocketId, address: SocketAddr) -> Option<SocketId> {
        self.open.push((socket, address));
        if self.open.len() <= MAX_OPEN_SOCKETS {
            return None;
        }
        let (oldest, address) = self.open.remove(0);
        self.failed.push((address, ConnectionError::TimedOut));
        Some(oldest)
    }

    /// Returns whether this socket belongs to the attempt.
    pub(crate) fn has(&self, socket: SocketId) -> bool {
        self.open.iter().any(|(open, _)| *open == socket)
    }

    /// Removes a socket that has failed. If it was the newest one, the next address is due now.
    pub(crate) fn failed(&mut self, socket: SocketId, error: ConnectionError, now: Instant) {
        let Some(index) = self.open.iter().position(|(open, _)| *open == socket) else { return };
        let is_newest = index + 1 == self.open.len();
        let (_, address) = self.open.remove(index);
        self.failed.push((address, error));
        if is_newest {
            self.next_at = now;
        }
    }

    /// Returns the sockets that are connecting.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = SocketId> {
        self.open.iter().map(|(socket, _)| *socket)
    }

    /// Ends the attempt and returns its error.
    ///
    /// Addresses that have not answered, and addresses that were not tried for lack of time, have timed out.
    pub(crate) fn into_error(self) -> ConnectionError {
        let late = self.open.into_iter().map(|(_, address)| address).chain(self.untried);
        let late = late.map(|address| (address, ConnectionError::TimedOut));
        ConnectionError::of_all(self.failed.into_iter().chain(late).collect())
    }
}

/// Sorts addresses so that the two families take turns, starting with the family of the first address.
///
/// Each family keeps its order (RFC 8305, section 4).
fn interleave(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let Some(first) = addresses.first() else { return VecDeque::new() };
    let is_v6 = first.is_ipv6();
    let (mut preferred, mut other): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == is_v6);
    let mut mixed = VecDeque::with_capacity(preferred.len() + other.len());
    while !preferred.is_empty() || !other.is_empty() {
        mixed.extend(preferred.pop_front());
        mixed.extend(other.pop_front());
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::time::{at, ms};

    fn v4(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 9000))
    }

    fn v6(last: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 9000))
    }

    /// Opens a socket to each address that is due, and returns the addresses.
    ///
    /// The sockets have consecutive numbers, from `first` on.
    fn open_due(attempt: &mut Attempt, first: usize, now: Instant) -> Vec<SocketAddr> {
        let mut opened = Vec::new();
        while let Some(address) = attempt.next_address(now) {
            assert_eq!(attempt.opened(SocketId(first + opened.len()), address), None);
            opened.push(address);
        }
        opened
    }

    #[test]
    fn families_take_turns_starting_with_the_first() {
        for (addresses, expected) in [
            (vec![], vec![]),
            (vec![v4(1)], vec![v4(1)]),
            (vec![v6(1), v6(2), v4(1), v4(2)], vec![v6(1), v4(1), v6(2), v4(2)]),
            (vec![v4(1), v4(2), v4(3), v6(1)], vec![v4(1), v6(1), v4(2), v4(3)]),
            (vec![v4(1), v6(1), v6(2), v6(3)], vec![v4(1), v6(1), v6(2), v6(3)]),
        ] {
            assert_eq!(interleave(addresses), expected);
        }
    }

    #[test]
    fn the_next_address_is_due_250_ms_after_the_last_and_not_at_249_ms() {
        let mut attempt = Attempt::new(vec![v4(1), v4(2), v4(3)], at(1000), at(11_000));
        for (index, now) in [1000, 1250, 1500].map(at).into_iter().enumerate() {
            assert_eq!(attempt.wake_at(), now);
            assert_eq!(attempt.next_address(now - ms(1)), None);
            assert_eq!(open_due(&mut attempt, index, now).len(), 1);
        }
        assert_eq!(attempt.wake_at(), at(11_000));
        assert!(!attempt.is_overdue(at(10_999)) && attempt.is_overdue(at(11_000)));
        assert_eq!(attempt.sockets().count(), 3, "no socket is closed for the next one");
    }

    #[test]
    fn a_failure_of_the_newest_socket_makes_the_next_address_due_and_one_of_an_older_does_not() {
        let mut attempt = Attempt::new(vec![v4(1), v4(2), v4(3), v4(4)], at(0), at(10_000));
        open_due(&mut attempt, 0, at(0));
        attempt.failed(SocketId(0), ConnectionError::Refused, at(10));
        assert_eq!(open_due(&mut attempt, 1, at(10)), [v4(2)]);
        assert_eq!(open_due(&mut attempt, 2, at(260)), [v4(3)]);
        attempt.failed(SocketId(1), ConnectionError::Refused, at(300));
        assert_eq!((attempt.next_address(at(300)), attempt.wake_at()), (None, at(510)));
        assert!(!attempt.has(SocketId(1)) && attempt.has(SocketId(2)));
        attempt.failed(SocketId(9), ConnectionError::Refused, at(300));
        assert_eq!(
            attempt.wake_at(),
            at(510),
            "a failed socket of another attempt changes nothing"
        );
    }

    #[test]
    fn all_addresses_are_tried_in_the_first_half_of_the_attempt() {
        for (count, timeout) in [(2, 1), (2, 100), (40, 10_000), (60, 10_000), (60, 10)] {
            let mut attempt = Attempt::new((1..=count).map(v4).collect(), at(0), at(timeout));
            let (mut now, mut opened, mut last) = (at(0), 0, at(0));
            while !attempt.is_overdue(now) {
                let due = open_due(&mut attempt, opened, now).len();
                if due > 0 {
                    (opened, last) = (opened + due, now);
                }
                assert!(attempt.wake_at() > now, "an address was due but not tried");
                now = attempt.wake_at();
            }
            assert_eq!(opened, usize::from(count), "within {timeout} ms");
            assert!(last <= at(timeout / 2), "{count} in {timeout} ms: the last at {last:?}");
        }
    }

    #[test]
    fn a_65th_socket_closes_the_oldest() {
        let addresses: Vec<_> = (0..66).map(v6).collect();
        let mut attempt = Attempt::new(addresses.clone(), at(0), at(0));
        let mut closed = Vec::new();
        for id in 0..addresses.len() {
            let address = attempt.next_address(at(0)).unwrap();
            closed.extend(attempt.opened(SocketId(id), address));
        }
        assert_eq!(closed, [SocketId(0), SocketId(1)]);
        assert_eq!(attempt.sockets().count(), MAX_OPEN_SOCKETS);
        assert!(!attempt.has_failed());
    }

    #[test]
    fn an_attempt_has_failed_when_each_address_has() {
        let mut attempt = Attempt::new(vec![v6(1), v4(1)], at(0), at(10_000));
        assert_eq!(open_due(&mut attempt, 0, at(0)), [v6(1)]);
        attempt.failed(SocketId(0), ConnectionError::TimedOut, at(5));
        assert!(!attempt.has_failed());
        assert_eq!(open_due(&mut attempt, 1, at(5)), [v4(1)]);
        assert!(!attempt.has_failed());
        attempt.failed(SocketId(1), ConnectionError::Refused, at(6));
        assert!(attempt.has_failed());
        let text = attempt.into_error().to_string();
        assert_eq!(
            text,
            "[2001:db8::1]:9000: no answer within the connect timeout; \
             192.0.2.1:9000: connection refused"
        );
    }

    #[test]
    fn an_address_without_an_answer_has_timed_out() {
        let mut attempt = Attempt::new(vec![v4(1), v4(2)], at(0), at(10_000));
        open_due(&mut attempt, 0, at(0));
        assert!(matches!(attempt.into_error(), ConnectionError::TimedOut));
        assert!(Attempt::new(vec![], at(0), at(10)).has_failed());
    }
}
