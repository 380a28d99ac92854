//! Reads which servers are asked for.

use std::error::Error;
use std::fmt;

use crate::stats::ServerState;
use crate::text::echo::quoted;

/// The servers of a page without `limit=`.
const DEFAULT_LIMIT: usize = 100;

/// The most servers of a page: 1,000, or about 700 KiB with their samples.
const MAX_LIMIT: usize = 1000;

/// The longest `q=`, in bytes: the longest host and port.
const MAX_TEXT: usize = 260;

/// The servers that are asked for, and their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The states, or any.
    pub(super) states: Option<States>,
    /// A part of the name or the address, in lower case; empty for any.
    pub(super) text: String,
    pub(super) order: Order,
    pub(super) is_reversed: bool,
    /// Invariant: at most [`MAX_LIMIT`].
    pub(super) limit: usize,
    pub(super) offset: usize,
}

impl Default for List {
    fn default() -> List {
        List {
            states: None,
            text: String::new(),
            order: Order::Down,
            is_reversed: false,
            limit: DEFAULT_LIMIT,
            offset: 0,
        }
    }
}

/// A set of states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct States([bool; ServerState::ALL.len()]);

impl States {
    pub(super) fn contains(self, state: ServerState) -> bool {
        self.0[state as usize]
    }
}

/// Returns whether a server in this state should be connected and is not.
pub(super) fn is_down(state: ServerState) -> bool {
    !matches!(state, ServerState::Connected | ServerState::Ended)
}

/// The figure by which servers are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Those that are down first, the longest outage first. The others follow by name.
    Down,
    Name,
    State,
    Rate,
    Failures,
    LastReceived,
    Lines,
}

/// The orders, as they are asked for.
const ORDERS: [(&str, Order); 7] = [
    ("down", Order::Down),
    ("name", Order::Name),
    ("state", Order::State),
    ("rate", Order::Rate),
    ("failures", Order::Failures),
    ("last_received", Order::LastReceived),
    ("lines", Order::Lines),
];

/// The error of a query: one line that names the parameter, its value and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError(String);

impl Error for QueryError {}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl List {
    /// Reads the parameters of a query, decoded. An empty value counts as none, because forms send those.
    ///
    /// # Errors
    ///
    /// Fails for an unknown or repeated parameter, and for a value that its parameter does not take.
    pub fn parse<'a>(
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<List, QueryError> {
        let mut list = List::default();
        let mut seen = Vec::new();
        for (name, value) in parameters {
            if seen.contains(&name) {
                return Err(QueryError(format!("{name}: given twice, expected once")));
            }
            list.set(name, value)?;
            // Only known names get here, so there are few.
            seen.push(name);
        }
        Ok(list)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), QueryError> {
        let is_known = ["state", "sort", "limit", "offset", "q"].contains(&name);
        if is_known && value.is_empty() {
            return Ok(());
        }
        let expected = |expected: &str| {
            Err(QueryError(format!("{name}: {}, expected {expected}", quoted(value))))
        };
        match name {
            "state" => match states(value) {
                Some(states) => self.states = Some(states),
                None => {
                    let names = ServerState::ALL.map(ServerState::name).join(", ");
                    return expected(&format!("down or one of {names}, or several with commas"));
                }
            },
            "sort" => {
                let (is_reversed, order) = match value.strip_prefix('-') {
                    Some(order) => (true, order),
                    None => (false, value),
                };
                let Some((_, order)) = ORDERS.iter().find(|(name, _)| *name == order) else {
                    let names = ORDERS.map(|(name, _)| name).join(", ");
                    return expected(&format!("one of {names}, with a - before it to reverse it"));
                };
                (self.order, self.is_reversed) = (*order, is_reversed);
            }
            "limit" => match number(value).filter(|limit| (1..=MAX_LIMIT).contains(limit)) {
                Some(limit) => self.limit = limit,
                None => return expected(&format!("a whole number from 1 to {MAX_LIMIT}")),
            },
            "offset" => match number(value) {
                Some(offset) => self.offset = offset,
                None => return expected("a whole number, of servers to skip"),
            },
            "q" if value.len() > MAX_TEXT => {
                return expected(&format!("at most {MAX_TEXT} bytes"));
            }
            "q" => self.text = value.to_lowercase(),
            _ => {
                let message =
                    format!("{}: unknown, expected state, sort, limit, offset or q", quoted(name));
                return Err(QueryError(message));
            }
        }
        Ok(())
    }
}

/// Parses digits alone: no sign, as `usize` would take it.
fn number(text: &str) -> Option<usize> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

fn states(text: &str) -> Option<States> {
    let mut states = States::default();
    for name in text.split(',') {
        let mut is_known = false;
        for (state, is_in) in ServerState::ALL.into_iter().zip(&mut states.0) {
            let is_meant = name == state.name() || name == "down" && is_down(state);
            *is_in |= is_meant;
            is_known |= is_meant;
        }
        if !is_known {
            return None;
        }
    }
    Some(states)
}
