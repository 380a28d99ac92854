//! The core: what a worker does, without I/O, clock, thread, atomic or log of its own.

pub(crate) mod attempt;
pub mod backoff;
pub mod clock;
pub(crate) mod connection_error;
pub(crate) mod counters;
pub mod fleet;
pub mod link;
pub mod link_id;
pub(crate) mod log_limit;
pub(crate) mod lookups;
pub(crate) mod outage;
pub mod policy;
pub mod socket_id;
#[cfg(feature = "cli")]
pub(crate) mod stopping;
pub mod time;
pub mod wheel;
pub(crate) mod wording;
pub mod worker;
