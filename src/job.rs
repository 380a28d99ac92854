//! Starts the threads of a job, stops them, and sums up their counts.

mod builder;
mod observer;
mod servers;

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::panic;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use log::{debug, info, warn};
use rand::TryRng;
use rand::rngs::SysRng;

use crate::address::{self, Host, Server};
use crate::codec::Decoder;
use crate::codec::number::NumberDecoder;
use crate::config::Config;
use crate::format::Format;
use crate::job::observer::Observer;
use crate::job::servers::Inbox;
use crate::net::resolver::Resolver;
use crate::net::{Net, Poller, QueueSink, Tcp};
use crate::notice_log::NoticeLog;
use crate::output::encode::{Encoder, Plain, PlainLines, TaggedLines, TaggedNumbers};
use crate::output::{self, Drained};
use crate::partition;
use crate::proto::fleet::Fleet;
use crate::proto::policy::Policy;
use crate::proto::time::Instant;
use crate::proto::worker::Worker;
use crate::report::{ExitReason, OutputError, Report, Totals};
use crate::ring::{Doorbell, queue, records_in};
use crate::stats::{Counters, ServerNames, Stats};
use crate::stop::{StopHandle, Wake};
use crate::text::count;
use crate::threads::spawn;

pub use builder::JobBuilder;
pub use servers::{Replaced, ServersHandle};

/// The bytes of records that wait for the output, per worker: 512 KiB, or 64 Ki numbers.
const RING_BYTES: usize = 512 * 1024;

/// The bytes that a worker can read into a ring that is half empty, even beside the longest unfinished line.
const LEAST_READ: usize = 4096;

/// A running collector: its workers and its output, each on a thread of its own.
///
/// It ends when it is [stopped](StopHandle::stop), its output is closed or fails, or no server is left to
/// dial. Dropping a `Job` does not stop it, as dropping a [`JoinHandle`] does not stop its thread.
#[derive(Debug)]
pub struct Job {
    stop: StopHandle,
    stats: Arc<Stats>,
    servers: ServersHandle,
    workers: Vec<JoinHandle<(Counters, usize)>>,
    notices: JoinHandle<()>,
    output: JoinHandle<Drained>,
}

impl Job {
    /// Starts the job that `config` describes: numbers or [`lines`](Config::lines), in its
    /// [`format`](Config::format), written to `output`.
    ///
    /// All else is as for [`JobBuilder::start`].
    ///
    /// # Errors
    ///
    /// As for [`JobBuilder::start`].
    pub fn start(config: Config, output: impl Write + Send + 'static) -> io::Result<Job> {
        let (format, framing, shard) = (config.format(), config.framing(), config.shard());
        match (config.lines(), format) {
            (false, Format::Plain) => Job::builder(config).start(output),
            (false, _) => {
                let encoder = TaggedNumbers::new(format, config.servers()).with_shard(shard);
                JobBuilder::numbers(config, encoder).start(output)
            }
            (true, Format::Plain) => {
                JobBuilder::whole_lines(config, PlainLines::new(framing)).start(output)
            }
            (true, _) => {
                let encoder = TaggedLines::new(format, framing, config.servers()).with_shard(shard);
                JobBuilder::whole_lines(config, encoder).start(output)
            }
        }
    }

    /// Makes a builder of a job for numbers, written one a line. It changes what a line becomes, and what is done
    /// with the records. It does not use [`Config::lines`] and [`Config::format`].
    pub fn builder(config: Config) -> JobBuilder<NumberDecoder, Plain> {
        JobBuilder::numbers(config, Plain::default())
    }

    /// Returns the number of workers that a job with these settings starts, for the program.
    #[doc(hidden)]
    pub fn workers(config: &Config) -> usize {
        let servers = config.servers().len();
        // If the system does not report its cores, there is at least one.
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        partition::workers(servers, config.parallelism(), cores, config.waits_for_servers())
    }

    fn start_with<D: Decoder>(
        config: Config,
        decoder: D,
        encoder: impl Encoder<D::Record>,
        output: impl Write + Send + 'static,
    ) -> io::Result<Job> {
        let workers = Job::workers(&config);
        if let Some(asked) = config.parallelism().filter(|asked| asked.get() > workers) {
            warn!("Parallelism {asked} is more than one worker per server: only {workers} started");
        }
        if let Some(warning) = repeated_warning(config.servers()) {
            warn!("{warning}");
        }
        if let Some(path) = decoder.path_name() {
            debug!("Decoding with {path}");
        }
        let pollers = (0..workers)
            .map(|index| Poller::new().map_err(|error| no_descriptors(index, &error)))
            .collect::<io::Result<Vec<_>>>()?;
        let stop = StopHandle::new(pollers.iter().map(wake_of).collect());
        let codec = (decoder, encoder);
        // After an error, the threads that have started end.
        Job::launch(&config, pollers, stop.clone(), codec, output).inspect_err(|_| stop.halt())
    }

    fn launch<D: Decoder>(
        config: &Config,
        pollers: Vec<Poller>,
        stop: StopHandle,
        (decoder, mut encoder): (D, impl Encoder<D::Record>),
        output: impl Write + Send + 'static,
    ) -> io::Result<Job> {
        let (servers, count) = (config.servers(), pollers.len());
        let has_names = servers.iter().any(|server| matches!(server.host(), Host::Name(_)));
        let needs_resolver = has_names || config.waits_for_servers();
        let resolver = needs_resolver.then(Resolver::start).transpose()?.map(Arc::new);
        let stats = Arc::new(Stats::new(count));
        encoder.set_servers(ServerNames(Arc::clone(&stats)));
        let list: Vec<_> = (0..count)
            .flat_map(|index| {
                partition::slice(servers.len(), count, index).map(move |at| (index, at))
            })
            .map(|(index, at)| stats.new_server(index, servers[at].clone()))
            .collect();
        stats.set_servers(list.clone(), Vec::new());
        stats.note_reload(true);
        let (notice_log, notices) = NoticeLog::start()?;
        let mut bell = Doorbell::new();
        let mut inboxes = Vec::new();
        let mut rings = Vec::new();
        let mut workers = Vec::new();
        for (index, poller) in pollers.into_iter().enumerate() {
            let slice = partition::slice(servers.len(), count, index);
            info!(
                "Task index {index} out of {count} allocated servers {} to {}",
                slice.start, slice.end
            );
            let waker = poller.waker();
            let wake = move || waker.wake();
            let (records, consumer) =
                queue(ring_capacity::<D>(config), encoder.needs_origin(), &bell, wake);
            let own_stats = stats.worker(index);
            rings.push((consumer, Arc::clone(own_stats)));
            let (changes, inbox) = mpsc::channel();
            inboxes.push(Inbox { changes, waker: poller.waker() });
            let observer = Observer {
                log: notice_log.clone(),
                worker: Arc::clone(own_stats),
                stats: Arc::clone(&stats),
                end: config.waits_for_servers().then(|| stop.clone()),
            };
            let seed = SysRng.try_next_u64()?;
            let mut fleet = Fleet::new(
                index,
                Policy::from(config),
                decoder.clone(),
                Box::new(observer),
                seed,
                Instant::ZERO,
            );
            fleet.reserve(slice.len());
            for server in &list[slice] {
                fleet.add_published(Arc::clone(server), Instant::ZERO);
            }
            let sink = QueueSink::new(records, index, Arc::clone(own_stats));
            let worker = Worker::new(fleet, sink, Instant::ZERO);
            let epoch = stats.epoch();
            let (resolver, stop) = (resolver.clone(), stop.clone());
            workers.push(spawn(&format!("worker-{index}"), move || {
                let _guard = StopOnPanic(stop.clone());
                worker.run(&mut Net::<Tcp>::new(poller, resolver, inbox, stop, epoch))
            })?);
        }
        let on_error = stop.clone();
        let guard = StopOnPanic(stop.clone());
        let figures = Arc::clone(&stats);
        let output = spawn("output", move || {
            let _guard = guard;
            output::drain(rings, figures.output(), &mut bell, encoder, output, || on_error.halt())
        })?;
        let servers = ServersHandle::new(Arc::clone(&stats), config.shard(), inboxes);
        Ok(Job { stop, stats, servers, workers, notices, output })
    }

    /// Returns a handle that stops this job from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Returns a handle that changes the servers of this job, from any thread.
    pub fn servers_handle(&self) -> ServersHandle {
        self.servers.clone()
    }

    /// Returns the figures of this job, for the program.
    #[doc(hidden)]
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.stats)
    }

    /// Waits for the end of the job. All records that were read are then printed, unless the output is closed.
    ///
    /// # Errors
    ///
    /// Fails if the output failed. An output that its reader has closed ([`io::ErrorKind::BrokenPipe`]) is no
    /// error.
    ///
    /// # Panics
    ///
    /// Panics if one of the job's threads has panicked, with its message.
    pub fn wait(self) -> Result<Report, OutputError> {
        let mut counters = Counters::default();
        let mut failed = 0;
        for worker in self.workers {
            let (its_counters, its_failed) = join(worker);
            counters += its_counters;
            failed += its_failed;
        }
        // What the workers did not log is summed up before the totals.
        join(self.notices);
        let drained = join(self.output);
        let totals = Totals { servers: self.stats.present(), counters, printed: drained.written };
        let is_asked = self.stop.is_asked();
        // Ctrl-C also ends the reader in a pipeline. The stop and the close then arrive in any order, and the
        // result must not depend on it.
        let reported = self.stop.output_error().filter(|error| !(is_asked && is_closed(error)));
        let reason = match root_error(drained.error, reported) {
            Some(error) if is_closed(&error) => ExitReason::OutputClosed,
            Some(error) => return Err(OutputError { error, lost: drained.lost, totals }),
            None if is_asked => ExitReason::Stopped,
            None => ExitReason::Finished { failed },
        };
        Ok(Report { reason, totals })
    }
}

/// Returns the capacity of a worker's ring. A worker that waits for room waits for half of the ring, so half of
/// it has to hold the records of the longest line.
fn ring_capacity<D: Decoder>(config: &Config) -> usize {
    records_in::<D::Record>(RING_BYTES).max(2 * D::max_records(config.max_line().get(), LEAST_READ))
}

fn wake_of(poller: &Poller) -> Wake {
    let waker = poller.waker();
    Box::new(move || waker.wake())
}

/// The most servers that the warning of repeated servers names. It bounds the length of the line.
const REPEATED_NAMED: usize = 8;

/// Words the warning of servers that are listed more than once. Their numbers are printed as often.
fn repeated_warning(servers: &[Server]) -> Option<String> {
    let repeated = address::repeated(servers);
    if repeated.is_empty() {
        return None;
    }
    let (named, others) = repeated.split_at(repeated.len().min(REPEATED_NAMED));
    let named: Vec<String> =
        named.iter().map(|(server, count)| format!("{server} ({count} times)")).collect();
    let more = match others.len() {
        0 => String::new(),
        others => format!(" and {}", count(others, "other")),
    };
    Some(format!("Listed more than once, and read as often: {}{more}", named.join(", ")))
}

/// Words the error of the descriptors that the system refused to worker `index`.
fn no_descriptors(index: usize, error: &io::Error) -> io::Error {
    let remedy = "raise the limit of open files (ulimit -n) or lower the parallelism (-p)";
    io::Error::new(error.kind(), format!("no descriptors for worker-{index}, {remedy}: {error}"))
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// Returns whether the reader has closed the output.
fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Selects the error to report from those of a write and of [`StopHandle::output_failed`].
///
/// A lost connection reports its error only once. The second of the two calls then gets the error of a closed
/// output, which says less.
fn root_error(written: Option<io::Error>, reported: Option<io::Error>) -> Option<io::Error> {
    match written {
        Some(error) if !is_closed(&error) => Some(error),
        written => reported.or(written),
    }
}

/// Stops the job when a thread panics, so that it does not continue without that thread.
struct StopOnPanic(StopHandle);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.halt();
        }
    }
}

#[cfg(test)]
mod tests;
