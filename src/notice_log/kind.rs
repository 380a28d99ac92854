//! Sorts the notices about servers by kind and by reason.

use std::io::ErrorKind;

use log::Level;

use crate::proto::connection_error::{ConnectionError, is_out_of_descriptors};
use crate::proto::notice::{Hint, ServerNotice};

/// The kind of a notice. Each has a limit, and a level, of its own.
///
/// Repeats in a long outage are kinds of their own: at level DEBUG they must not displace the lines of WARN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Trying,
    TryingAgain,
    LookupPending,
    LateAnswer,
    Dialing,
    Connected,
    ConnectedAgain,
    ConnectFailed,
    ConnectFailedAgain,
    Lost,
    LostAgain,
    Down,
    GaveUp,
    ReadToEnd,
    ReadInVain,
    Malformed,
    Oversized,
    Truncated,
    NoDelimiter,
    OnlyMalformed,
    Unfinished,
}

impl Kind {
    pub(super) const COUNT: usize = Kind::ALL.len();

    /// All kinds, in the order of their numbers.
    pub(super) const ALL: [Kind; 21] = [
        Kind::Trying,
        Kind::TryingAgain,
        Kind::LookupPending,
        Kind::LateAnswer,
        Kind::Dialing,
        Kind::Connected,
        Kind::ConnectedAgain,
        Kind::ConnectFailed,
        Kind::ConnectFailedAgain,
        Kind::Lost,
        Kind::LostAgain,
        Kind::Down,
        Kind::GaveUp,
        Kind::ReadToEnd,
        Kind::ReadInVain,
        Kind::Malformed,
        Kind::Oversized,
        Kind::Truncated,
        Kind::NoDelimiter,
        Kind::OnlyMalformed,
        Kind::Unfinished,
    ];

    pub(super) fn of(what: &ServerNotice<'_>) -> Kind {
        match *what {
            ServerNotice::Trying { is_repeat: false } => Kind::Trying,
            ServerNotice::Trying { is_repeat: true } => Kind::TryingAgain,
            ServerNotice::LookupPending => Kind::LookupPending,
            ServerNotice::LateAnswer => Kind::LateAnswer,
            ServerNotice::Dialing { .. } => Kind::Dialing,
            ServerNotice::Connected { is_repeat: false, .. } => Kind::Connected,
            ServerNotice::Connected { is_repeat: true, .. } => Kind::ConnectedAgain,
            ServerNotice::Failed { was_connected, is_repeat, .. } => {
                match (was_connected, is_repeat) {
                    (false, false) => Kind::ConnectFailed,
                    (false, true) => Kind::ConnectFailedAgain,
                    (true, false) => Kind::Lost,
                    (true, true) => Kind::LostAgain,
                }
            }
            ServerNotice::Down { .. } => Kind::Down,
            ServerNotice::GaveUp { .. } => Kind::GaveUp,
            ServerNotice::ReadToEnd { success: true, .. } => Kind::ReadToEnd,
            ServerNotice::ReadToEnd { success: false, .. } => Kind::ReadInVain,
            ServerNotice::Malformed { .. } => Kind::Malformed,
            ServerNotice::Oversized { .. } => Kind::Oversized,
            ServerNotice::Truncated { .. } => Kind::Truncated,
            ServerNotice::Hint { hint: Hint::NoDelimiter { .. } } => Kind::NoDelimiter,
            ServerNotice::Hint { hint: Hint::OnlyMalformed { .. } } => Kind::OnlyMalformed,
            ServerNotice::Unfinished { .. } => Kind::Unfinished,
        }
    }

    /// Returns the level of its lines.
    pub(super) fn level(self) -> Level {
        match self {
            Kind::Down | Kind::GaveUp => Level::Error,
            Kind::ConnectFailed
            | Kind::Lost
            | Kind::ReadInVain
            | Kind::Malformed
            | Kind::Oversized
            | Kind::Truncated
            | Kind::NoDelimiter
            | Kind::OnlyMalformed => Level::Warn,
            Kind::Trying | Kind::Connected | Kind::ReadToEnd => Level::Info,
            Kind::TryingAgain
            | Kind::LookupPending
            | Kind::LateAnswer
            | Kind::Dialing
            | Kind::ConnectedAgain
            | Kind::ConnectFailedAgain
            | Kind::LostAgain
            | Kind::Unfinished => Level::Debug,
        }
    }

    /// Returns the noun that is counted, and the words after it.
    pub(super) fn noun(self) -> (&'static str, &'static str) {
        match self {
            Kind::Trying => ("attempt", ""),
            Kind::TryingAgain => ("repeated attempt", ""),
            Kind::LookupPending => ("lookup", " still under way"),
            Kind::LateAnswer => ("lookup", " that ended late"),
            Kind::Dialing => ("dial", ""),
            Kind::Connected => ("connection", ""),
            Kind::ConnectedAgain => ("repeated connection", ""),
            Kind::ConnectFailed => ("failure", " to connect"),
            Kind::ConnectFailedAgain => ("repeated failure", " to connect"),
            Kind::Lost => ("lost connection", ""),
            Kind::LostAgain => ("repeatedly lost connection", ""),
            Kind::Down => ("server", " down for long"),
            Kind::GaveUp => ("server", " given up"),
            Kind::ReadToEnd => ("server", " read to the end"),
            Kind::ReadInVain => ("server", " read to the end without a good line"),
            Kind::Malformed => ("malformed line", ""),
            Kind::Oversized => ("oversized line", ""),
            Kind::Truncated => ("truncated line", ""),
            Kind::NoDelimiter => ("server", " without a delimiter"),
            Kind::OnlyMalformed => ("server", " with only malformed lines"),
            Kind::Unfinished => ("unfinished line", ""),
        }
    }
}

/// The reason of a notice, for its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its kind has no reasons.
    None,
    Refused,
    TimedOut,
    NotResolved,
    Unreachable,
    Descriptors,
    ToItself,
    Closed,
    Reset,
    Idle,
    ByAddress,
    Other,
}

impl Reason {
    pub(super) const COUNT: usize = Reason::ALL.len();

    /// All reasons, in the order of their numbers.
    pub(super) const ALL: [Reason; 12] = [
        Reason::None,
        Reason::Refused,
        Reason::TimedOut,
        Reason::NotResolved,
        Reason::Unreachable,
        Reason::Descriptors,
        Reason::ToItself,
        Reason::Closed,
        Reason::Reset,
        Reason::Idle,
        Reason::ByAddress,
        Reason::Other,
    ];

    pub(super) fn of(what: &ServerNotice<'_>) -> Reason {
        match what {
            ServerNotice::Failed { error, .. } => Reason::of_error(error),
            ServerNotice::GaveUp { error, .. } => error.map_or(Reason::TimedOut, Reason::of_error),
            _ => Reason::None,
        }
    }

    fn of_error(error: &ConnectionError) -> Reason {
        match error {
            ConnectionError::Refused => Reason::Refused,
            ConnectionError::TimedOut => Reason::TimedOut,
            ConnectionError::NotResolved(_) => Reason::NotResolved,
            ConnectionError::ConnectedToItself => Reason::ToItself,
            ConnectionError::Closed => Reason::Closed,
            ConnectionError::Idle => Reason::Idle,
            ConnectionError::AllAddresses(_) => Reason::ByAddress,
            ConnectionError::Io(error) if is_out_of_descriptors(error) => Reason::Descriptors,
            ConnectionError::Io(error) => match error.kind() {
                ErrorKind::TimedOut => Reason::TimedOut,
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Reason::Unreachable,
                ErrorKind::ConnectionReset => Reason::Reset,
                _ => Reason::Other,
            },
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Reason::None => "",
            Reason::Refused => "connection refused",
            Reason::TimedOut => "no answer in time",
            Reason::NotResolved => "name not resolved",
            Reason::Unreachable => "unreachable",
            Reason::Descriptors => "out of descriptors",
            Reason::ToItself => "connected to itself",
            Reason::Closed => "closed by the server",
            Reason::Reset => "connection reset",
            Reason::Idle => "idle timeout",
            Reason::ByAddress => "different reasons by address",
            Reason::Other => "other reasons",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn kinds_and_reasons_are_listed_in_the_order_of_their_numbers() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
        for (number, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
    }

    #[test]
    fn repeats_in_an_outage_are_kinds_of_their_own_at_debug() {
        let error = &ConnectionError::Closed;
        let failed = |was_connected, is_repeat| {
            Kind::of(&ServerNotice::Failed { error, was_connected, retry: None, is_repeat })
        };
        for was_connected in [false, true] {
            assert_eq!(failed(was_connected, false).level(), Level::Warn);
            assert_eq!(failed(was_connected, true).level(), Level::Debug);
        }
        assert_ne!(failed(false, false), failed(true, false));
        let trying = |is_repeat| Kind::of(&ServerNotice::Trying { is_repeat });
        assert_eq!([trying(false).level(), trying(true).level()], [Level::Info, Level::Debug]);
    }

    #[test]
    fn errors_of_the_system_are_sorted_by_what_they_mean() {
        let reason = |error: io::Error| Reason::of_error(&error.into());
        for (kind, expected) in [
            (ErrorKind::ConnectionRefused, Reason::Refused),
            (ErrorKind::ConnectionReset, Reason::Reset),
            (ErrorKind::NetworkUnreachable, Reason::Unreachable),
            (ErrorKind::HostUnreachable, Reason::Unreachable),
            (ErrorKind::TimedOut, Reason::TimedOut),
            (ErrorKind::PermissionDenied, Reason::Other),
        ] {
            assert_eq!(reason(kind.into()), expected);
        }
        #[cfg(unix)]
        for errno in [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE] {
            assert_eq!(reason(errno.into()), Reason::Descriptors);
        }
    }
}
