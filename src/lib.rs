//! A collector that dials out: it connects to any number of TCP servers, reads newline-delimited
//! numbers from each, and prints those that a divisor divides. A server that is lost is dialled again
//! with exponential back-off, alone, while the others go on.
//!
//! What the program `tcpcore` does, another program does with a [`Config`] and a [`Job`]:
//!
//! ```
//! use std::io::Write;
//! use std::net::TcpListener;
//! use tcpcore::{Config, Job, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A server on a free port, to have something to dial.
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let server: Server = listener.local_addr()?.to_string().parse()?;
//! let feed = std::thread::spawn(move || {
//!     let (mut client, _) = listener.accept()?;
//!     client.write_all(b"1\n6\n7\n12\n")
//! });
//!
//! let config = Config::builder().servers([server]).once(true).build()?;
//! let job = Job::start(config, std::io::stdout())?;
//! // From any thread, at any time: `job.stop_handle().stop()`.
//! let report = job.wait()?;
//!
//! assert!(report.is_success());
//! assert_eq!((report.totals.counters.lines, report.totals.printed), (4, 2));
//! # feed.join().expect("the feed does not panic")?;
//! # Ok(())
//! # }
//! ```
//!
//! # The map
//!
//! | room | its one job |
//! |---|---|
//! | [`Config`], [`Server`] | what is to be done; one that exists is valid |
//! | [`partition`] | which worker dials which servers |
//! | [`line`](mod@line) | chunks to whole lines, across reads, in bounded memory |
//! | [`number`] | lines to numbers, and the verdict on each |
//! | [`backoff`] | how long to wait before the next attempt |
//! | [`wheel`] | timers, in O(1) |
//! | [`link`] | one server: its state, its unfinished line, its counters |
//! | [`fleet`] | one worker's links and timers: all of a worker but the I/O |
//! | [`ring`] | numbers from a worker to the printer, without locks, and the doorbell |
//! | `worker` | the poll loop: sockets, readiness, the clock |
//! | `resolver` | names to addresses, off the loop |
//! | [`format`](mod@format) | numbers to lines of text |
//! | `printer` | N rings to one output |
//! | [`Job`] | the threads: start, stop, totals |
#![cfg_attr(feature = "cli", doc = "| [`cli`] | arguments to a `Config`, and the help |")]
#![cfg_attr(feature = "cli", doc = "| [`signals`] | SIGINT and SIGTERM to a stop |")]
#![cfg_attr(feature = "cli", doc = "| [`stdout`] | standard output, unbuffered |")]
//!
//! A byte's way: `worker` sees readiness, `fleet` says whose turn it is, `link` reads, `line` cuts,
//! `number` judges, `ring` carries, `printer` writes. A failure's way: `worker` tells, `link` decides,
//! `backoff` says when, `wheel` wakes, and `worker` dials again.
//!
//! # What is absent
//!
//! `tests/absences.rs` holds the code to these:
//!
//! - `unsafe` stands in `ring`, and in `number::vector`, the judge for processors that have AVX-512,
//!   and nowhere else.
//! - mio is named in `worker` alone; `Instant::now` and the like are called there, and by the printer to
//!   tell a rush.
//! - The rooms from `partition` to `fleet`, and `format`, do no I/O of their own: they see bytes as slices or
//!   through [`Read`](std::io::Read), time as a number and randomness as an argument, so that a
//!   simulator and a fuzzer drive the code that runs.
//! - There is no async runtime anywhere, and no lock of ours: a worker waits for its poll alone. (What
//!   it logs goes the way of the logger, so a log that nobody reads holds it up.)

pub mod backoff;
#[cfg(feature = "cli")]
pub mod cli;
mod config;
pub mod fleet;
pub mod format;
pub mod line;
pub mod link;
pub mod number;
pub mod partition;
mod printer;
mod resolver;
pub mod ring;
mod run;
mod server;
#[cfg(feature = "cli")]
pub mod signals;
#[cfg(feature = "cli")]
pub mod stdout;
pub mod wheel;
mod worker;

pub use config::{Config, ConfigBuilder, ConfigError};
pub use run::{Ending, Job, OutputError, Report, StopHandle, Totals};
pub use server::{Host, Server, ServerError, ServerErrorKind};
