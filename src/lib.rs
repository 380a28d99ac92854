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
//! | module | its one job |
//! |---|---|
//! | [`Config`], [`Server`] | what is to be done; one that exists is valid |
//! | `echo` | what a user typed, as messages show it |
//! | [`partition`] | which worker dials which servers |
//! | [`duration`] | durations as users type them, read and shown |
//! | [`line`](mod@line) | chunks to whole lines, across reads, in bounded memory |
//! | [`number`] | lines to numbers, and what is wrong with a line that is none |
//! | [`backoff`] | how long to wait before the next attempt |
//! | [`wheel`] | timers, in O(1) |
//! | [`clock`] | a worker's time, which leaves out that in which the process did not run |
//! | [`ConnectionError`] | why an attempt failed or a connection ended |
//! | `attempt` | which address of a server is tried when |
//! | `outage` | how long a server is down, and how often in a row it has failed |
//! | `log_limit` | how often what may repeat without end is logged |
//! | [`link`] | one server: its state, its unfinished line, its counters |
//! | [`fleet`] | one worker's links, timers and sockets, and which is read next |
//! | [`worker`] | one worker's whole turn, over the [`Io`](worker::Io) that it needs |
//! | [`ring`] | numbers from a worker to the output, without locks, and the doorbell |
//! | `net` | the `Io` of a worker: sockets, readiness, the clock |
//! | `lookups` | which name is looked up next, and by how many threads |
//! | `resolver` | names to addresses, off the loop: the threads |
//! | [`format`](mod@format) | numbers to lines of text |
//! | `output` | N rings to one output: the thread |
//! | `output::drain` | what that thread does next |
//! | `output::buffer` | text on its way out, and how much of it was written and lost |
//! | `output::pacing` | whether the thread sleeps or polls |
//! | `threads` | starting a thread |
//! | `wording` | how values look in the log and in other messages |
//! | [`Job`] | the threads: start, stop, totals |
#![cfg_attr(feature = "cli", doc = "| [`cli`] | arguments to a `Config`, and the help |")]
#![cfg_attr(feature = "cli", doc = "| `cli::nearest` | the flags that a mistyped one may mean |")]
#![cfg_attr(
    feature = "cli",
    doc = "| [`logging`] | log records to stderr, never holding up a caller |"
)]
#![cfg_attr(feature = "cli", doc = "| `logging::filter` | which records are logged |")]
#![cfg_attr(
    feature = "cli",
    doc = "| `logging::queue` | lines from all threads to the writing one |"
)]
#![cfg_attr(feature = "cli", doc = "| `stopping` | what a signal means, given its time |")]
#![cfg_attr(feature = "cli", doc = "| [`signals`] | SIGINT, SIGTERM and SIGHUP to a stop |")]
#![cfg_attr(
    feature = "cli",
    doc = "| `descriptor` | waiting for a descriptor that may not block |"
)]
#![cfg_attr(feature = "cli", doc = "| [`stdout`] | standard output, watched for its reader |")]
#![cfg_attr(
    feature = "cli",
    doc = "| `startup` | in the program: whether stdout was closed at its start |"
)]
//!
//! A byte's way: `net` reports readiness, `worker` asks `fleet` which connection is read next, `link` reads,
//! `line` finds whole lines, `number` decodes them, `ring` carries numbers, `output` writes. A failure's way:
//! `net` reports, `worker` passes on, `link` decides, `backoff` says when, `wheel` wakes, and `worker` dials
//! again.
//!
//! # What is absent
//!
//! `tests/absences.rs` holds the code to these:
//!
//! - `unsafe` stands in `ring`, in `number::vector`, the decoder for processors that have AVX-512, and in one
//!   attribute of the program's `startup`.
//! - mio is named in `net` alone. Threads alone read the clock: those of `net`, `output`, `resolver` and
//!   `signals`; `logging` alone reads the wall clock.
//! - The modules from `partition` to `worker`, `lookups`, `format`, `stopping` and those within `output` do no
//!   I/O of their own: they see bytes as slices or through [`Read`](std::io::Read) and [`Io`](worker::Io),
//!   time as a number and randomness as an argument, so that a simulator and a fuzzer drive the code that
//!   runs.
//! - There is no async runtime anywhere, and no lock of ours: a worker waits for its poll alone. What it logs
//!   goes to the logger of the process; that of `logging` never waits for a reader.

mod attempt;
pub mod backoff;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
mod config;
mod connection_error;
#[cfg(feature = "cli")]
mod descriptor;
pub mod duration;
mod echo;
pub mod fleet;
pub mod format;
pub mod line;
pub mod link;
mod log_limit;
#[cfg(feature = "cli")]
pub mod logging;
mod lookups;
mod net;
pub mod number;
mod outage;
mod output;
pub mod partition;
mod resolver;
pub mod ring;
mod run;
mod server;
#[cfg(feature = "cli")]
pub mod signals;
#[cfg(feature = "cli")]
pub mod stdout;
#[cfg(feature = "cli")]
mod stopping;
mod threads;
pub mod wheel;
mod wording;
pub mod worker;

pub use attempt::{CONNECTION_ATTEMPT_DELAY, MAX_OPEN_SOCKETS};
pub use config::{Config, ConfigBuilder, ConfigError};
pub use connection_error::ConnectionError;
pub use outage::DOWN_ALARM;
pub use run::{Ending, Job, OutputError, Report, StopHandle, Totals};
pub use server::{Host, Server, ServerError, ServerErrorKind};
