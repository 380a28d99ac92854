//! Keeps the last descriptors of the process free for what has to work while connections have taken all others.
//!
//! The system gives a new descriptor the smallest free number. So a large number means that nearly all others are in
//! use, and the new one is closed again. Connections to servers leave more of them free than clients of the status
//! server do. So those clients are served, and beside them the list of servers can be read.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// The part of all descriptors that connections to servers leave free: an eighth, and at most 80. That is one for each
/// of the 64 clients of the status server, and 16 for files and lookups.
const BY_SERVERS: Share = Share { divisor: 8, most: 80 };

/// The part that clients of the status server leave free: a 32nd, and at most 16.
#[cfg(feature = "cli")]
const BY_CLIENTS: Share = Share { divisor: 32, most: 16 };

/// A part of all descriptors.
#[derive(Clone, Copy)]
struct Share {
    divisor: u64,
    most: u64,
}

impl Share {
    /// Returns whether this number of a descriptor is among the last ones below the limit.
    fn has(self, number: u64, limit: u64) -> bool {
        number >= limit - (limit / self.divisor).min(self.most)
    }
}

/// Fails if the new descriptor of a connection to a server is one of those that are left free.
///
/// # Errors
///
/// Fails as the system does at the limit of open files.
pub(crate) fn check_server(descriptor: impl AsFd) -> io::Result<()> {
    if is_in(BY_SERVERS, descriptor) { Err(Errno::MFILE.into()) } else { Ok(()) }
}

/// Returns whether the new descriptor of a client of the status server is one of those that are left free.
#[cfg(feature = "cli")]
pub(crate) fn is_kept_from_clients(descriptor: impl AsFd) -> bool {
    is_in(BY_CLIENTS, descriptor)
}

fn is_in(share: Share, descriptor: impl AsFd) -> bool {
    /// The limit of open files when it was last asked for.
    static LIMIT: AtomicU64 = AtomicU64::new(0);
    let number = u64::try_from(descriptor.as_fd().as_raw_fd()).expect("it is open");
    if !share.has(number, LIMIT.load(Relaxed)) {
        return false;
    }
    // The limit may have been raised since.
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    LIMIT.store(limit, Relaxed);
    share.has(number, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_leave_an_eighth_free_and_at_most_80() {
        for (limit, first) in
            [(0, 0), (7, 7), (20, 18), (40, 35), (1024, 944), (1 << 20, (1 << 20) - 80)]
        {
            assert!(BY_SERVERS.has(first, limit), "{limit}");
            assert!(first == 0 || !BY_SERVERS.has(first - 1, limit), "{limit}");
        }
        assert!(!BY_SERVERS.has(1 << 40, u64::MAX), "there is no limit");
    }

    #[cfg(feature = "cli")]
    #[test]
    fn clients_leave_fewer_free_than_servers() {
        for (limit, first) in [(31, 31), (40, 39), (1024, 1008), (1 << 20, (1 << 20) - 16)] {
            assert!(BY_CLIENTS.has(first, limit) && !BY_CLIENTS.has(first - 1, limit), "{limit}");
            assert!(BY_SERVERS.has(first, limit), "{limit}");
        }
    }

    #[test]
    fn a_descriptor_far_below_the_limit_is_not_left_free() {
        check_server(io::stdin()).unwrap();
    }
}
