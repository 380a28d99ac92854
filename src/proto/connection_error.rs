//! Represents the errors of attempts and connections.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::stats::{DisconnectReason, FailureReason, LastError};

/// The reason for which an attempt failed or a connection ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The server's host refused the connection, as no program listens on the port.
    Refused,
    /// There was no answer within the connect timeout.
    TimedOut,
    /// The name was not resolved.
    NotResolved(io::Error),
    /// TCP's simultaneous open connected the socket to itself (RFC 9293, section 3.5).
    ///
    /// That happens when the server is on this machine and the system picks its port as the local port.
    ConnectedToItself,
    /// The server closed the connection.
    Closed,
    /// The connection received nothing for the idle timeout.
    Idle,
    /// Any other error of the system: unreachable, reset, out of file descriptors.
    Io(io::Error),
    /// All addresses of the server failed, for different reasons.
    AllAddresses(Box<[(SocketAddr, ConnectionError)]>),
}

/// The most addresses that a message names, as it is one line of a log.
const ADDRESSES_SHOWN: usize = 8;

impl ConnectionError {
    /// Combines the errors of all addresses of an attempt. Errors with the same text become one.
    pub(crate) fn of_all(mut failed: Vec<(SocketAddr, ConnectionError)>) -> ConnectionError {
        let Some((_, first)) = failed.first() else {
            let none = io::Error::new(io::ErrorKind::NotFound, "it has no address");
            return ConnectionError::NotResolved(none);
        };
        let text = first.to_string();
        if failed.iter().all(|(_, error)| error.to_string() == text) {
            return failed.swap_remove(0).1;
        }
        ConnectionError::AllAddresses(failed.into())
    }
}

impl ConnectionError {
    /// Returns its reason, as counters and metrics tell reasons apart. Of several addresses, the first one counts.
    pub(crate) fn summary(&self, was_connected: bool) -> LastError {
        if let ConnectionError::AllAddresses(errors) = self
            && let Some((_, first)) = errors.first()
        {
            return first.summary(was_connected);
        }
        let code = match self {
            ConnectionError::NotResolved(error) | ConnectionError::Io(error) => {
                error.raw_os_error()
            }
            _ => None,
        };
        match was_connected {
            true => LastError::Disconnect(self.disconnect_reason(), code),
            false => LastError::Failure(self.failure_reason(), code),
        }
    }

    fn failure_reason(&self) -> FailureReason {
        match self {
            ConnectionError::Refused => FailureReason::Refused,
            ConnectionError::TimedOut => FailureReason::Timeout,
            ConnectionError::NotResolved(_) => FailureReason::Resolve,
            ConnectionError::ConnectedToItself => FailureReason::ToSelf,
            ConnectionError::Io(error) if is_out_of_descriptors(error) => {
                FailureReason::Descriptors
            }
            ConnectionError::Io(error) => match error.kind() {
                io::ErrorKind::TimedOut => FailureReason::Timeout,
                io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::AddrNotAvailable => FailureReason::Unreachable,
                _ => FailureReason::Other,
            },
            ConnectionError::Closed | ConnectionError::Idle | ConnectionError::AllAddresses(_) => {
                FailureReason::Other
            }
        }
    }

    fn disconnect_reason(&self) -> DisconnectReason {
        match self {
            ConnectionError::Closed => DisconnectReason::Eof,
            ConnectionError::Idle => DisconnectReason::Idle,
            ConnectionError::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                DisconnectReason::Reset
            }
            _ => DisconnectReason::Other,
        }
    }
}

/// Returns whether the limit of open files is the reason, of the process or of the system.
#[cfg(unix)]
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// Returns `false`, as only Unix has that limit.
#[cfg(not(unix))]
pub(crate) fn is_out_of_descriptors(_: &io::Error) -> bool {
    false
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> ConnectionError {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectionError::Refused,
            _ => ConnectionError::Io(error),
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectionError::Refused => write!(f, "connection refused"),
            ConnectionError::TimedOut => write!(f, "no answer within the connect timeout"),
            ConnectionError::NotResolved(error) => write!(f, "name not resolved: {error}"),
            ConnectionError::ConnectedToItself => write!(f, "the socket connected to itself"),
            ConnectionError::Closed => write!(f, "closed by the server"),
            ConnectionError::Idle => write!(f, "nothing received within the idle timeout"),
            ConnectionError::Io(error) => write!(f, "{error}"),
            ConnectionError::AllAddresses(errors) => fmt_all(errors, f),
        }
    }
}

fn fmt_all(errors: &[(SocketAddr, ConnectionError)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, (address, error)) in errors.iter().take(ADDRESSES_SHOWN).enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        write!(f, "{separator}{address}: {error}")?;
    }
    match errors.len().saturating_sub(ADDRESSES_SHOWN) {
        0 => Ok(()),
        1 => write!(f, "; and 1 more address"),
        more => write!(f, "; and {more} more addresses"),
    }
}

impl Error for ConnectionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // The text includes the error itself.
            ConnectionError::NotResolved(error) | ConnectionError::Io(error) => error.source(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 9000))
    }

    fn unreachable() -> ConnectionError {
        io::Error::from(io::ErrorKind::NetworkUnreachable).into()
    }

    #[test]
    fn the_source_of_an_error_of_the_system_is_that_of_the_inner_error() {
        #[derive(Debug)]
        struct Outer(fmt::Error);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("outer")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = || io::Error::other(Outer(fmt::Error));
        for error in [ConnectionError::Io(error()), ConnectionError::NotResolved(error())] {
            assert!(error.source().is_some_and(|source| source.is::<fmt::Error>()), "{error}");
        }
    }

    #[test]
    fn a_refusal_is_distinct_from_other_errors() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(matches!(refused.into(), ConnectionError::Refused));
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(matches!(reset.into(), ConnectionError::Io(_)));
    }

    #[test]
    fn each_error_has_its_text() {
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        let texts = [
            (ConnectionError::Refused, "connection refused"),
            (ConnectionError::TimedOut, "no answer within the connect timeout"),
            (ConnectionError::NotResolved(reset()), "name not resolved: connection reset"),
            (ConnectionError::ConnectedToItself, "the socket connected to itself"),
            (ConnectionError::Closed, "closed by the server"),
            (ConnectionError::Idle, "nothing received within the idle timeout"),
            (reset().into(), "connection reset"),
        ];
        for (error, text) in texts {
            assert_eq!(error.to_string(), text);
            assert!(error.source().is_none(), "the text includes it");
        }
    }

    #[test]
    fn equal_errors_become_one_and_different_errors_are_listed_with_their_addresses() {
        let alike = vec![(address(1), unreachable()), (address(2), unreachable())];
        assert_eq!(ConnectionError::of_all(alike).to_string(), "network unreachable");
        let one = vec![(address(1), ConnectionError::Refused)];
        assert!(matches!(ConnectionError::of_all(one), ConnectionError::Refused));
        let differ = vec![(address(1), unreachable()), (address(2), ConnectionError::Refused)];
        assert_eq!(
            ConnectionError::of_all(differ).to_string(),
            "192.0.2.1:9000: network unreachable; 192.0.2.2:9000: connection refused"
        );
        assert_eq!(
            ConnectionError::of_all(vec![]).to_string(),
            "name not resolved: it has no address"
        );
    }

    #[test]
    fn eight_addresses_are_listed_and_the_others_are_counted() {
        let errors = |count| {
            let refused = (1..count).map(|last| (address(last), ConnectionError::Refused));
            ConnectionError::of_all(refused.chain([(address(count), unreachable())]).collect())
        };
        assert!(errors(8).to_string().ends_with("192.0.2.8:9000: network unreachable"));
        let text = errors(10).to_string();
        assert!(text.ends_with("192.0.2.8:9000: connection refused; and 2 more addresses"));
    }
}
