//! Sorts the notices about servers by kind and by reason.

use std::iter;

use log::Level;

use crate::proto::connection_error::ConnectionError;
use crate::proto::notice::{Hint, ServerNotice};
use crate::stats::{DisconnectReason, FailureReason, LastError};

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

/// The reason of a notice, for its count: that of a failed attempt or of an ended connection, as metrics have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its kind has no reasons.
    None,
    Failure(FailureReason),
    Disconnect(DisconnectReason),
}

impl Reason {
    pub(super) const COUNT: usize = 1 + FailureReason::ALL.len() + DisconnectReason::ALL.len();

    /// Returns all reasons, in the order of their numbers.
    pub(super) fn all() -> impl Iterator<Item = Reason> {
        let failures = FailureReason::ALL.into_iter().map(Reason::Failure);
        let disconnects = DisconnectReason::ALL.into_iter().map(Reason::Disconnect);
        iter::once(Reason::None).chain(failures).chain(disconnects)
    }

    /// Returns its number, from 0 to less than [`COUNT`](Self::COUNT).
    pub(super) fn number(self) -> usize {
        match self {
            Reason::None => 0,
            Reason::Failure(reason) => 1 + reason as usize,
            Reason::Disconnect(reason) => 1 + FailureReason::ALL.len() + reason as usize,
        }
    }

    pub(super) fn of(what: &ServerNotice<'_>) -> Reason {
        let (error, was_connected) = match *what {
            ServerNotice::Failed { error, was_connected, .. } => (error, was_connected),
            ServerNotice::GaveUp { error, was_connected, .. } => {
                (error.unwrap_or(&ConnectionError::TimedOut), was_connected)
            }
            _ => return Reason::None,
        };
        match error.summary(was_connected) {
            LastError::Failure(reason, _) => Reason::Failure(reason),
            LastError::Disconnect(reason, _) => Reason::Disconnect(reason),
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Reason::None => "",
            Reason::Failure(reason) => reason.text(),
            Reason::Disconnect(reason) => reason.text(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::time::Duration;

    #[test]
    fn kinds_and_reasons_are_listed_in_the_order_of_their_numbers() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
        for (number, reason) in Reason::all().enumerate() {
            assert_eq!(reason.number(), number);
        }
        assert_eq!(Reason::all().count(), Reason::COUNT);
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
    fn the_reason_is_that_of_the_attempt_or_of_the_connection() {
        let reset = &std::io::Error::from(std::io::ErrorKind::ConnectionReset).into();
        let gave_up = |error, was_connected| {
            let (failures, span) = (1, Duration::ZERO);
            Reason::of(&ServerNotice::GaveUp { failures, span, error, was_connected })
        };
        let failed = |was_connected| {
            let (error, retry, is_repeat) = (reset, None, false);
            Reason::of(&ServerNotice::Failed { error, was_connected, retry, is_repeat })
        };
        for (reason, expected) in [
            (failed(true), Reason::Disconnect(DisconnectReason::Reset)),
            (failed(false), Reason::Failure(FailureReason::Other)),
            (gave_up(Some(reset), true), Reason::Disconnect(DisconnectReason::Reset)),
            (gave_up(None, false), Reason::Failure(FailureReason::Timeout)),
            (Reason::of(&ServerNotice::LateAnswer), Reason::None),
        ] {
            assert_eq!(reason, expected);
        }
    }
}
