//! Makes all decisions of a worker, without any I/O, clock, thread or log.

pub(crate) mod attempt;
pub mod backoff;
pub mod clock;
pub mod connection_error;
pub mod fleet;
pub mod link;
pub mod link_id;
pub(crate) mod log_limit;
pub(crate) mod lookups;
pub mod notice;
pub(crate) mod outage;
pub mod policy;
pub mod socket_id;
#[cfg(all(feature = "cli", unix))]
pub(crate) mod stopping;
pub mod time;
pub mod wheel;
pub mod worker;
