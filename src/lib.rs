//! The collector that dials out.
#![warn(missing_docs)]

pub mod backoff;
pub mod fleet;
pub mod line;
pub mod link;
pub mod number;
pub mod partition;
pub mod ring;
pub mod wheel;

#[cfg(feature = "cli")]
pub mod cli;
mod config;
mod server;
#[cfg(feature = "cli")]
pub mod stdout;

pub use config::{Config, ConfigBuilder, ConfigError};
pub use server::{Host, Server, ServerError, ServerErrorKind};
