//! Decides whether a job is ready.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use crate::stats::{ServerState, Snapshot};

/// The condition under which a job is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ready {
    /// Each server was tried once.
    #[default]
    Started,
    /// A server is connected.
    Any,
    /// So many percent of the servers are connected, from 1 to 100.
    Percent(u8),
}

impl Ready {
    /// Checks the condition. A job without servers is ready.
    ///
    /// # Errors
    ///
    /// Fails with the reason why the job is not ready, in a few words.
    pub fn check(self, snapshot: &Snapshot) -> Result<(), String> {
        let servers = snapshot.servers.len();
        if self == Ready::Started {
            let tried = snapshot.servers.iter().filter(|server| server.was_tried()).count();
            return match tried == servers {
                true => Ok(()),
                false => Err(format!("{tried} of {servers} servers were tried")),
            };
        }
        let expected = match self {
            Ready::Started => 0,
            Ready::Any => servers.min(1),
            Ready::Percent(percent) => (servers * usize::from(percent)).div_ceil(100),
        };
        let connected = snapshot.count(ServerState::Connected);
        match connected >= expected {
            true => Ok(()),
            false => Err(format!("{connected} of {servers} connected, {expected} expected")),
        }
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ready::Started => f.write_str("started"),
            Ready::Any => f.write_str("any"),
            Ready::Percent(100) => f.write_str("all"),
            Ready::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// The error of a text that is no condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyError;

impl Error for ReadyError {}

impl fmt::Display for ReadyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected started, any, all or 1% to 100%")
    }
}

impl FromStr for Ready {
    type Err = ReadyError;

    fn from_str(text: &str) -> Result<Ready, ReadyError> {
        match text {
            "started" => return Ok(Ready::Started),
            "any" => return Ok(Ready::Any),
            "all" => return Ok(Ready::Percent(100)),
            _ => {}
        }
        let number = text.strip_suffix('%').ok_or(ReadyError)?;
        // The standard parser accepts a sign.
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        let percent = number.parse().ok().filter(|percent| (1..=100).contains(percent));
        percent.filter(|_| is_number).map(Ready::Percent).ok_or(ReadyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{FailureReason, LastError, Stats, Update};
    use std::sync::Arc;

    /// Makes the snapshot of servers in these states. Those that are down have failed so often.
    fn snapshot(servers: &[(ServerState, u64)]) -> Snapshot {
        let stats = Stats::new(1);
        let made = servers.iter().map(|(state, failures)| {
            let server = stats.new_server(0, "127.0.0.1:1".parse().unwrap());
            let state = *state;
            if state == ServerState::Connected {
                server.connected();
            }
            for _ in 0..*failures {
                server.failed(LastError::Failure(FailureReason::Refused, None));
            }
            server.update(&Update { now: 0, state, failures: 0, next_attempt: None });
            Arc::clone(&server)
        });
        let made = made.collect();
        stats.set_servers(made, Vec::new());
        stats.snapshot()
    }

    const UP: (ServerState, u64) = (ServerState::Connected, 0);
    const DOWN: (ServerState, u64) = (ServerState::Waiting, 1);
    const NEW: (ServerState, u64) = (ServerState::Connecting, 0);

    fn check(ready: &str, servers: &[(ServerState, u64)]) -> Result<(), String> {
        ready.parse::<Ready>().unwrap().check(&snapshot(servers))
    }

    #[test]
    fn started_means_that_each_server_was_tried_once() {
        assert_eq!(check("started", &[UP, DOWN]), Ok(()));
        assert_eq!(check("started", &[DOWN]), Ok(()));
        assert_eq!(check("started", &[UP, NEW, NEW]), Err("1 of 3 servers were tried".into()));
    }

    #[test]
    fn any_means_one_connected() {
        assert_eq!(check("any", &[DOWN, NEW, UP]), Ok(()));
        assert_eq!(check("any", &[DOWN, NEW]), Err("0 of 2 connected, 1 expected".into()));
    }

    #[test]
    fn all_means_each_and_a_percentage_is_rounded_up() {
        assert_eq!(check("all", &[UP, UP]), Ok(()));
        assert_eq!(check("all", &[UP, DOWN]), Err("1 of 2 connected, 2 expected".into()));
        assert_eq!(check("50%", &[UP, DOWN]), Ok(()));
        assert_eq!(check("51%", &[UP, DOWN]), Err("1 of 2 connected, 2 expected".into()));
        assert_eq!(check("1%", &[DOWN, DOWN]), Err("0 of 2 connected, 1 expected".into()));
    }

    #[test]
    fn a_job_without_servers_is_ready() {
        for ready in ["started", "any", "all", "1%"] {
            assert_eq!(check(ready, &[]), Ok(()));
        }
    }

    #[test]
    fn a_condition_is_a_word_or_1_to_100_percent() {
        for text in ["started", "any", "all", "1%", "99%"] {
            assert_eq!(text.parse::<Ready>().unwrap().to_string(), text);
        }
        assert_eq!("100%".parse(), Ok(Ready::Percent(100)));
        for text in ["", "%", "0%", "101%", "256%", "-1%", "+1%", "50", "1.5%", "All", " all"] {
            assert_eq!(text.parse::<Ready>(), Err(ReadyError), "{text}");
        }
    }
}
