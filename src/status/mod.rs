//! Serves what a job publishes over HTTP: health for a supervisor, figures for a collector, a page for a browser.
//!
//! The server has a thread of its own and never touches a worker. It is bounded in connections, in bytes and in time.

use std::time::Duration;

pub mod connection;
mod context;
mod history;
mod json;
mod metrics;
mod page;
mod pages;
mod process;
mod ready;
pub mod request;
mod response;
mod server;

pub use context::{Context, Shard};
pub use history::{History, INTERVAL, Rate, SAMPLES};
pub use json::{List, QueryError};
pub use metrics::Metrics;
pub use page::{CONTENT_SECURITY_POLICY, PAGE};
pub use pages::{JobPages, PageOptions};
pub use process::Process;
pub use ready::{Ready, ReadyError};
pub use request::Query;
pub use response::{Response, Status, TEXT};
pub use server::{Bound, StatusServer};

/// The content types of what is rendered.
pub mod content_type {
    /// That of [`Metrics::encode`](super::Metrics::encode).
    pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE as METRICS;

    /// That of [`List::render`](super::List::render).
    pub const JSON: &str = "application/json";

    /// That of [`PAGE`](super::PAGE).
    pub const HTML: &str = "text/html; charset=utf-8";
}

/// The pages of a server.
pub trait Pages {
    /// Makes the response to a request for this path.
    fn respond(&self, path: &str, query: &Query) -> Response;

    /// Does what is due at the time `now` since the start of the server. Returns the time of the next call; `None` for
    /// none. It may be called earlier. The default does nothing.
    fn tick(&mut self, now: Duration) -> Option<Duration> {
        _ = now;
        None
    }
}

#[cfg(test)]
mod tests;
