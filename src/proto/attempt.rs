//! The addresses of one attempt: which is tried when, and which of them is connected first.
//!
//! An attempt connects to all addresses of a name as [RFC 8305](https://www.rfc-editor.org/rfc/rfc8305)
//! (Happy Eyeballs) says: the address families take turns, the next address is tried a short while after
//! the last one, or as soon as that one has failed, and none is closed before the attempt ends. The
//! first to connect wins. So neither a broken IPv6 nor a long path keeps a server from being reached.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::proto::connection_error::ConnectionError;
use crate::proto::socket_id::SocketId;
use crate::proto::time::Millis;

/// The time between the starts of two addresses, unless the first of them fails earlier: the
/// recommended Connection Attempt Delay of RFC 8305, section 5.
pub(crate) const CONNECTION_ATTEMPT_DELAY: Millis = 250;

/// The sockets that one attempt has open at once at most, so that a name with hundreds of silent
/// addresses does not take the descriptors of other servers.
pub(crate) const MAX_OPEN_SOCKETS: usize = 64;

/// One attempt to connect to a server.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The addresses that are not tried yet, in their order.
    rest: VecDeque<SocketAddr>,
    /// The sockets that are being connected, in the order of their start.
    open: Vec<(SocketId, SocketAddr)>,
    failed: Vec<(SocketAddr, ConnectionError)>,
    /// When the next address is due. Without a meaning when there is none.
    next_at: Millis,
    /// The time from one start to the next.
    delay: Millis,
    /// When the attempt has to be over.
    deadline: Millis,
}

impl Attempt {
    /// An attempt that has tried none of `addresses` yet. Its first one is due at once.
    ///
    /// The delay between two addresses is shorter than [`CONNECTION_ATTEMPT_DELAY`] if there are so many,
    /// or so little time, that the last one would be tried in the second half of the attempt.
    pub(crate) fn new(addresses: Vec<SocketAddr>, now: Millis, deadline: Millis) -> Attempt {
        let rest = interleave(addresses);
        let half = deadline.saturating_sub(now) / 2;
        let delay = half / (rest.len() as u64).saturating_sub(1).max(1);
        let delay = delay.min(CONNECTION_ATTEMPT_DELAY);
        Attempt { rest, open: Vec::new(), failed: Vec::new(), next_at: now, delay, deadline }
    }

    /// When something is to be done if no socket connects or fails before.
    pub(crate) fn wake_at(&self) -> Millis {
        if self.rest.is_empty() { self.deadline } else { self.deadline.min(self.next_at) }
    }

    /// Whether the attempt's time is over.
    pub(crate) fn is_overdue(&self, now: Millis) -> bool {
        self.deadline <= now
    }

    /// Whether every address has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.rest.is_empty() && self.open.is_empty()
    }

    /// Takes the next address if it is due. The caller opens a socket and reports it to
    /// [`opened`](Attempt::opened), and calls this again.
    pub(crate) fn next_address(&mut self, now: Millis) -> Option<SocketAddr> {
        if self.next_at > now {
            return None;
        }
        let address = self.rest.pop_front()?;
        self.next_at = now.saturating_add(self.delay);
        Some(address)
    }

    /// Takes note of the socket that was opened to `address`. Returns a socket that is to be closed
    /// in exchange if there are too many: the oldest, which has had the most time.
    pub(crate) fn opened(&mut self, socket: SocketId, address: SocketAddr) -> Option<SocketId> {
        self.open.push((socket, address));
        if self.open.len() <= MAX_OPEN_SOCKETS {
            return None;
        }
        let (oldest, address) = self.open.remove(0);
        self.failed.push((address, ConnectionError::TimedOut));
        Some(oldest)
    }

    /// Whether this socket is one of the attempt's.
    pub(crate) fn has(&self, socket: SocketId) -> bool {
        self.open.iter().any(|(open, _)| *open == socket)
    }

    /// Takes note that a socket has failed. If it was the newest one, the next address is due now.
    pub(crate) fn failed(&mut self, socket: SocketId, error: ConnectionError, now: Millis) {
        let Some(index) = self.open.iter().position(|(open, _)| *open == socket) else { return };
        let is_newest = index + 1 == self.open.len();
        let (_, address) = self.open.remove(index);
        self.failed.push((address, error));
        if is_newest {
            self.next_at = now;
        }
    }

    /// The sockets that are being connected.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = SocketId> {
        self.open.iter().map(|(socket, _)| *socket)
    }

    /// Ends the attempt and returns why it has failed. Addresses that have not answered, and those that
    /// there was no time for, have timed out.
    pub(crate) fn into_error(self) -> ConnectionError {
        let late = self.open.into_iter().map(|(_, address)| address).chain(self.rest);
        let late = late.map(|address| (address, ConnectionError::TimedOut));
        ConnectionError::of_all(self.failed.into_iter().chain(late).collect())
    }
}

/// Lets the two address families take turns, beginning with that of the first address; each family
/// keeps its order (RFC 8305, section 4).
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

    fn v4(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 9000))
    }

    fn v6(last: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 9000))
    }

    /// Opens sockets to all addresses that are due, numbered from `first`, and returns the addresses.
    fn open_due(attempt: &mut Attempt, first: usize, now: Millis) -> Vec<SocketAddr> {
        let mut opened = Vec::new();
        while let Some(address) = attempt.next_address(now) {
            assert_eq!(attempt.opened(SocketId(first + opened.len()), address), None);
            opened.push(address);
        }
        opened
    }

    #[test]
    fn families_take_turns_beginning_with_the_first() {
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
    fn the_next_address_is_due_250_ms_after_the_last_and_not_a_millisecond_earlier() {
        let mut attempt = Attempt::new(vec![v4(1), v4(2), v4(3)], 1000, 11_000);
        for (index, now) in [1000, 1250, 1500].into_iter().enumerate() {
            assert_eq!(attempt.wake_at(), now);
            assert_eq!(attempt.next_address(now - 1), None);
            assert_eq!(open_due(&mut attempt, index, now).len(), 1);
        }
        assert_eq!(attempt.wake_at(), 11_000);
        assert!(!attempt.is_overdue(10_999) && attempt.is_overdue(11_000));
        assert_eq!(attempt.sockets().count(), 3, "none is closed for the next one");
    }

    #[test]
    fn a_failure_of_the_newest_makes_the_next_due_and_one_of_an_older_does_not() {
        let mut attempt = Attempt::new(vec![v4(1), v4(2), v4(3), v4(4)], 0, 10_000);
        open_due(&mut attempt, 0, 0);
        attempt.failed(SocketId(0), ConnectionError::Refused, 10);
        assert_eq!(open_due(&mut attempt, 1, 10), [v4(2)]);
        assert_eq!(open_due(&mut attempt, 2, 260), [v4(3)]);
        attempt.failed(SocketId(1), ConnectionError::Refused, 300);
        assert_eq!((attempt.next_address(300), attempt.wake_at()), (None, 510));
        assert!(!attempt.has(SocketId(1)) && attempt.has(SocketId(2)));
        attempt.failed(SocketId(9), ConnectionError::Refused, 300);
        assert_eq!(attempt.wake_at(), 510, "a socket of another attempt");
    }

    #[test]
    fn all_addresses_are_tried_in_the_first_half_of_the_attempt() {
        for (count, timeout) in [(2, 1), (2, 100), (40, 10_000), (60, 10_000), (60, 10)] {
            let mut attempt = Attempt::new((1..=count).map(v4).collect(), 0, timeout);
            let (mut now, mut opened, mut last) = (0, 0, 0);
            while !attempt.is_overdue(now) {
                let due = open_due(&mut attempt, opened, now).len();
                if due > 0 {
                    (opened, last) = (opened + due, now);
                }
                assert!(attempt.wake_at() > now, "an address that is due was not tried");
                now = attempt.wake_at();
            }
            assert_eq!(opened, usize::from(count), "within {timeout} ms");
            assert!(last <= timeout / 2, "{count} in {timeout} ms: the last at {last}");
        }
    }

    #[test]
    fn more_sockets_than_the_bound_close_the_oldest() {
        let addresses: Vec<_> = (0..66).map(v6).collect();
        let mut attempt = Attempt::new(addresses.clone(), 0, 0);
        let mut closed = Vec::new();
        for id in 0..addresses.len() {
            let address = attempt.next_address(0).unwrap();
            closed.extend(attempt.opened(SocketId(id), address));
        }
        assert_eq!(closed, [SocketId(0), SocketId(1)]);
        assert_eq!(attempt.sockets().count(), MAX_OPEN_SOCKETS);
        assert!(!attempt.has_failed());
    }

    #[test]
    fn an_attempt_has_failed_when_every_address_has() {
        let mut attempt = Attempt::new(vec![v6(1), v4(1)], 0, 10_000);
        assert_eq!(open_due(&mut attempt, 0, 0), [v6(1)]);
        attempt.failed(SocketId(0), ConnectionError::TimedOut, 5);
        assert!(!attempt.has_failed());
        assert_eq!(open_due(&mut attempt, 1, 5), [v4(1)]);
        assert!(!attempt.has_failed());
        attempt.failed(SocketId(1), ConnectionError::Refused, 6);
        assert!(attempt.has_failed());
        let text = attempt.into_error().to_string();
        assert_eq!(
            text,
            "[2001:db8::1]:9000: no answer within the connect timeout; \
             192.0.2.1:9000: connection refused"
        );
    }

    #[test]
    fn what_has_not_answered_has_timed_out() {
        let mut attempt = Attempt::new(vec![v4(1), v4(2)], 0, 10_000);
        open_due(&mut attempt, 0, 0);
        assert!(matches!(attempt.into_error(), ConnectionError::TimedOut));
        assert!(Attempt::new(vec![], 0, 10).has_failed());
    }
}
