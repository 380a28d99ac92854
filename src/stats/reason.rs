//! Names the reasons for which attempts fail and connections end.

use std::io;

/// The reason for which an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureReason {
    /// The name was not resolved.
    Resolve,
    /// The host refused the connection.
    Refused,
    /// There was no answer in time.
    Timeout,
    /// The host or its network was unreachable.
    Unreachable,
    /// The process or the system was out of file descriptors.
    Descriptors,
    /// The socket connected to itself.
    ToSelf,
    /// Any other reason.
    Other,
}

impl FailureReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [FailureReason; 7] = [
        FailureReason::Resolve,
        FailureReason::Refused,
        FailureReason::Timeout,
        FailureReason::Unreachable,
        FailureReason::Descriptors,
        FailureReason::ToSelf,
        FailureReason::Other,
    ];

    /// Returns the name, as metrics show it.
    pub const fn name(self) -> &'static str {
        match self {
            FailureReason::Resolve => "resolve",
            FailureReason::Refused => "refused",
            FailureReason::Timeout => "timeout",
            FailureReason::Unreachable => "unreachable",
            FailureReason::Descriptors => "descriptors",
            FailureReason::ToSelf => "self",
            FailureReason::Other => "other",
        }
    }

    /// Returns its text for people.
    pub const fn text(self) -> &'static str {
        match self {
            FailureReason::Resolve => "name not resolved",
            FailureReason::Refused => "connection refused",
            FailureReason::Timeout => "no answer in time",
            FailureReason::Unreachable => "unreachable",
            FailureReason::Descriptors => "out of descriptors",
            FailureReason::ToSelf => "connected to itself",
            FailureReason::Other => "connection failed",
        }
    }
}

/// The reason for which a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The server closed it.
    Eof,
    /// It was reset.
    Reset,
    /// It was idle for too long.
    Idle,
    /// Its server was removed from the list.
    Removed,
    /// Any other reason.
    Other,
}

impl DisconnectReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [DisconnectReason; 5] = [
        DisconnectReason::Eof,
        DisconnectReason::Reset,
        DisconnectReason::Idle,
        DisconnectReason::Removed,
        DisconnectReason::Other,
    ];

    /// Returns the name, as metrics show it.
    pub const fn name(self) -> &'static str {
        match self {
            DisconnectReason::Eof => "eof",
            DisconnectReason::Reset => "reset",
            DisconnectReason::Idle => "idle",
            DisconnectReason::Removed => "removed",
            DisconnectReason::Other => "other",
        }
    }

    /// Returns its text for people.
    pub const fn text(self) -> &'static str {
        match self {
            DisconnectReason::Eof => "closed by the server",
            DisconnectReason::Reset => "connection reset",
            DisconnectReason::Idle => "idle timeout",
            DisconnectReason::Removed => "removed from the list",
            DisconnectReason::Other => "connection lost",
        }
    }
}

/// The last failure of a server: its reason, and the number of the system's error if there was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LastError {
    /// An attempt failed.
    Failure(FailureReason, Option<i32>),
    /// A connection ended.
    Disconnect(DisconnectReason, Option<i32>),
}

impl LastError {
    /// Packs it into a number other than 0.
    pub(super) fn pack(self) -> u64 {
        let (kind, reason, code) = match self {
            LastError::Failure(reason, code) => (1, reason as u64, code),
            LastError::Disconnect(reason, code) => (2, reason as u64, code),
        };
        kind | reason << 8 | u64::from(code.unwrap_or(0).cast_unsigned()) << 32
    }

    /// Unpacks a number of [`pack`](Self::pack); `None` for any other.
    pub(super) fn unpack(packed: u64) -> Option<LastError> {
        let code = Some((packed >> 32) as u32).filter(|code| *code != 0).map(u32::cast_signed);
        let reason = (packed >> 8 & 0xFF) as usize;
        match packed & 0xFF {
            1 => Some(LastError::Failure(*FailureReason::ALL.get(reason)?, code)),
            2 => Some(LastError::Disconnect(*DisconnectReason::ALL.get(reason)?, code)),
            _ => None,
        }
    }

    /// Returns its text for people.
    pub fn text(self) -> String {
        let (reason, code) = match self {
            LastError::Failure(reason, code) => (reason.text(), code),
            LastError::Disconnect(reason, code) => (reason.text(), code),
        };
        match code {
            // The text of the system says more.
            Some(code) => io::Error::from_raw_os_error(code).to_string(),
            None => reason.to_owned(),
        }
    }
}
