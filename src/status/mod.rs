//! Serves what a job publishes over HTTP: health for a supervisor, figures for a collector, a page for a browser.
//!
//! The server has a thread of its own and never touches a worker. It is bounded in connections, in bytes and in time.
//! Without a client it does not wake up.

pub mod connection;
mod pages;
mod ready;
pub mod request;
mod response;
mod server;

pub use pages::JobPages;
pub use ready::{Ready, ReadyError};
pub use request::Query;
pub use response::{Response, Status, TEXT};
pub use server::{Bound, StatusServer};

/// The pages of a server.
pub trait Pages {
    /// Makes the response to a request for this path.
    fn respond(&self, path: &str, query: &Query) -> Response;
}
