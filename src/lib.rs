//! The collector that dials out.
#![warn(missing_docs)]

pub mod backoff;
pub mod partition;
pub mod ring;
pub mod wheel;
