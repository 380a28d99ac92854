//! Connects to any number of TCP servers, reads lines from each, and writes the records in them to one output.
//! By default a line is a number, and the multiples of a divisor are written. Each server has its own
//! exponential back-off: one that is lost does not delay the others.
//!
//! A [`Config`] and a [`Job`] do what the program `tcpcore` does:
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
//! # Map
//!
//! | module | its one job | imports |
//! |---|---|---|
//! | `address` | servers as a user writes them | `text` |
//! | `cli` | arguments to a [`Config`], and the help | `address`, `config`, `control`, `format`, `logging`, `partition`, `status`, `text` |
//! | `codec` | bytes to records | |
//! | `config` | settings, their defaults and bounds, and the list file of servers | `address`, `codec`, `format`, `partition`, `proto`, `text` |
//! | `control` | what the operator asks of a running job | `config`, `job`, `partition`, `signals`, `stats`, `text`, `threads` |
//! | `descriptor` | waiting for a descriptor that may not block | |
//! | `format` | the names of the formats of the output | |
//! | `job` | the threads: start, stop, change of servers, report | `address`, `codec`, `config`, `format`, `net`, `notice_log`, `origin`, `output`, `partition`, `proto`, `report`, `ring`, `stats`, `stop`, `text`, `threads` |
//! | `logging` | log records to stderr, without holding up a caller | `descriptor`, `partition`, `threads` |
//! | `net` | sockets, readiness, the clock, lookups: what a worker does with mio | `address`, `origin`, `proto`, `reserve`, `ring`, `stats`, `stop`, `threads` |
//! | `notice_log` | the notices of the core as lines of the log, and their limit | `address`, `proto`, `stats`, `text`, `threads` |
//! | `origin` | which server sent a record, and when it was read | |
//! | `output` | the records of all workers to one output, as text | `address`, `codec`, `descriptor`, `format`, `origin`, `partition`, `ring`, `stats`, `stop`, `threads` |
//! | `partition` | which shard and which worker dials which servers | `address` |
//! | `proto` | the core: all decisions of a worker | `address`, `codec`, `stats`, `text` |
//! | `report` | how a job ended, and what it did | `stats`, `text` |
//! | `reserve` | the last descriptors, which connections leave free | |
//! | `ring` | records from a worker to the output, without locks, and the doorbell | |
//! | `signals` | what SIGINT, SIGTERM and SIGHUP do | `proto`, `stop`, `threads` |
//! | `stats` | what a job publishes: counters and states, in atomics | `address` |
//! | `status` | what a job publishes, over HTTP: health, metrics, JSON and a page | `proto`, `reserve`, `stats`, `stop`, `text`, `threads` |
//! | `stop` | stopping a job, from any thread | |
//! | `text` | durations, delimiters, quotations and mistyped names, as a user reads and writes them | |
//! | `threads` | starting a thread | |
//!
//! The program is `main` over `cli`, `logging`, `signals`, `status` and [`Job`].
//!
//! Within `proto`:
//!
//! | module | its one job |
//! |---|---|
//! | `worker` | one worker's whole turn, over the `Io` that it needs of the system |
//! | `fleet` | one worker's links, timers and sockets, and which connection is read next |
//! | `link` | one server: its state, its unfinished line, its counters |
//! | `link_id` | which link is meant, also after its index is used again |
//! | `attempt` | which address of a server is tried when (RFC 8305) |
//! | `backoff` | the delay before the next attempt |
//! | `outage` | how long a server is down, and how often in a row it has failed |
//! | `connection_error` | why an attempt failed or a connection ended |
//! | `time` | moments and spans, in whole milliseconds |
//! | `wheel` | timers, in O(1) |
//! | `clock` | a worker's time, without that in which the process did not run |
//! | `notice` | what happens, as values |
//! | `log_limit` | how often a line that may repeat without end is logged |
//! | `lookups` | which name is looked up next, and by how many threads |
//! | `stopping` | what a signal means, given its time |
//!
//! The way of a byte: `net` reports readiness, `worker` asks `fleet` which connection is read next, `link`
//! reads, `codec` finds whole lines and decodes them, `ring` carries records, `output` encodes and writes
//! them. The way of a failure: `net` reports it, `worker` passes it on, `link` decides, `backoff` says
//! when, `wheel` wakes, and `worker` connects again.
//!
//! # What is absent
//!
//! The compiler and `tests/architecture.rs` hold the code to these:
//!
//! - A module imports what the map says. There is no circle.
//! - `unsafe` is in `ring::slots`, in `codec::number::vector`, and in one attribute of the program.
//! - mio is named in `net` and in `status::server` alone. Only threads read the clock: those of `control`, `net`,
//!   `notice_log`, `output`, `signals` and `status::server`, and a snapshot of `stats`.
//! - `codec`, `partition`, `proto` and `text` do no I/O of their own. They see bytes as slices or through
//!   [`Read`](std::io::Read) and `Io`. Time and randomness are arguments. A simulator and a fuzzer drive the
//!   code that runs.
//! - There is no async runtime. A worker takes no lock, and waits for its poll alone.
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | server | what is dialed: a host and a port, with an optional name |
//! | label | the text that stands for a server: its name, else its address |
//! | list file | a text file with a server a line |
//! | link | the state of one server in a worker |
//! | shard | one of several processes that share a list: each dials its part |
//! | fleet | all links of a worker |
//! | attempt | one try to connect to a server, at all its addresses |
//! | outage | the period in which a server is down |
//! | backlog | what a connection still has to read when its share of a turn is used up |
//! | moment, span | a point in a worker's time (`Instant`), and the time between two (`Duration`) |
//! | turn | one round of a worker's loop |
//! | delimiter | the byte that ends a line |
//! | region | one or more whole lines, the last byte a delimiter |
//! | record | what a line becomes: a number, or what a decoder of the user's makes of it |
//! | decoder, encoder | bytes to records, records to text |
//! | fallback | the path of a decoder for any processor |
//! | malformed, oversized, truncated | a line that does not decode, that is over the limit, that the end of its connection cut off |
//! | sink | where a worker puts records: the producing end of a ring |
//! | room | free space in a ring |
//! | doorbell | what wakes the thread of the output |
//! | burst | wake-ups in quick succession, in which the output polls instead of sleeping |

#[cfg(all(feature = "cli", not(unix)))]
compile_error!(
    "the command line (feature `cli`) needs a Unix system; for the library alone, turn the default \
     features off"
);

mod address;
#[cfg(feature = "cli")]
mod cli;
mod codec;
mod config;
#[cfg(all(feature = "cli", unix))]
mod control;
#[cfg(all(feature = "cli", unix))]
mod descriptor;
mod format;
mod job;
#[cfg(all(feature = "cli", unix))]
mod logging;
mod net;
mod notice_log;
mod origin;
mod output;
mod partition;
mod proto;
mod report;
#[cfg(unix)]
mod reserve;
mod ring;
#[cfg(all(feature = "cli", unix))]
mod signals;
mod stats;
#[cfg(all(feature = "cli", unix))]
mod status;
mod stop;
mod text;
mod threads;

pub use address::{Host, Server, ServerError, ServerErrorKind, ServerNameError};
pub use codec::number::{Divisor, NumberDecoder, NumberError};
pub use codec::{ByLine, Decoder, Framing, Handler, LineDecoder, Lines};
pub use config::{Config, ConfigBuilder, ConfigError};
pub use format::{Format, FormatError};
pub use job::{Job, JobBuilder, Replaced, ServersHandle};
pub use origin::Origin;
pub use output::encode::{ENCODE_SLACK, Encoder, Plain, PlainLines, TaggedLines, TaggedNumbers};
pub use partition::{Shard, ShardBy, ShardError};
pub use proto::connection_error::ConnectionError;
pub use report::{ExitReason, OutputError, Report, Totals};
pub use stats::{Counters, ServerNames};
pub use stop::StopHandle;

/// The parts within, for the program, tests, fuzz targets and benchmarks of this project.
///
/// They are exempt from semantic versioning: any release may change or remove them.
#[doc(hidden)]
pub mod internals {
    macro_rules! reexport {
        ($($(#[$attribute:meta])* $module:ident),+ $(,)?) => {$(
            $(#[$attribute])*
            pub mod $module {
                pub use crate::$module::*;
            }
        )+};
    }

    reexport! {
        #[cfg(feature = "cli")]
        cli,
        codec,
        #[cfg(all(feature = "cli", unix))]
        control,
        config,
        #[cfg(all(feature = "cli", unix))]
        logging,
        output,
        partition,
        proto,
        ring,
        #[cfg(all(feature = "cli", unix))]
        signals,
        stats,
        #[cfg(all(feature = "cli", unix))]
        status,
        text,
    }
}
