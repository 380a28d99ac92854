//! Reads and shows durations, and quotes a user's text in messages.

pub mod duration;
pub(crate) mod echo;
