//! Threads: starting them, stopping them, and adding up what they did.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::panic;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use log::{info, warn};
use rand::TryRng;
use rand::rngs::SysRng;

use crate::address::{self, Host, Server};
use crate::codec::Decoder;
use crate::codec::number::{Divisor, NumberDecoder};
use crate::config::Config;
use crate::net::resolver::Resolver;
use crate::net::{Net, Poller, Tcp};
use crate::notice_log::NoticeLog;
use crate::output::encode::{Encoder, Plain};
use crate::output::{self, Drained};
use crate::partition;
use crate::proto::counters::Counters;
use crate::proto::fleet::Fleet;
use crate::proto::policy::Policy;
use crate::proto::worker::Worker;
use crate::report::{ExitReason, OutputError, Report, Totals};
use crate::ring::{Doorbell, ring};
use crate::stop::{StopHandle, Wake};
use crate::text::count;
use crate::threads::spawn;

/// The most records that may wait for the output, per worker: of numbers, half a megabyte.
const RING_CAPACITY: usize = 64 * 1024;

/// A running collector: its workers and its output, each on a thread of its own.
///
/// Dropping a `Job` lets it run on, as dropping a [`JoinHandle`] does.
#[derive(Debug)]
pub struct Job {
    stop: StopHandle,
    servers: usize,
    workers: Vec<JoinHandle<(Counters, usize)>>,
    output: JoinHandle<Drained>,
}

impl Job {
    /// Starts to dial the servers of `config` and to write the multiples of its divisor to `output`, one
    /// number a line.
    ///
    /// The rest is as with [`start_with`](Self::start_with).
    ///
    /// # Errors
    /// If the system grants no thread, no descriptor or no random seed.
    pub fn start(config: Config, output: impl Write + Send + 'static) -> io::Result<Job> {
        let decoder = NumberDecoder::new(Divisor::new(config.divisor()), config.max_line().get());
        Job::start_with(config, decoder, Plain::default(), output)
    }

    /// Starts to dial the servers of `config` and to write what `decoder` finds in their lines to `output`, as
    /// `encoder` writes it. The divisor of `config` is not used.
    ///
    /// `output` is written to in whole lines and flushed whenever there is nothing more to add; it
    /// may block, which holds the servers back by TCP's flow control and loses nothing.
    ///
    /// # Errors
    /// If the system grants no thread, no descriptor or no random seed. Nothing runs then. A server
    /// that cannot be reached is no error: it is dialled again.
    pub fn start_with<D: Decoder>(
        config: Config,
        decoder: D,
        encoder: impl Encoder<D::Record>,
        output: impl Write + Send + 'static,
    ) -> io::Result<Job> {
        let servers = config.servers().len();
        // A system that does not tell its cores has one, at least.
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let workers = partition::workers(servers, config.parallelism(), cores);
        if let Some(asked) = config.parallelism().filter(|asked| asked.get() > workers) {
            warn!("Parallelism {asked} is more than one worker per server: only {workers} started");
        }
        if let Some(warning) = repeated_warning(config.servers()) {
            warn!("{warning}");
        }
        let pollers = (0..workers)
            .map(|index| Poller::new().map_err(|error| no_descriptors(index, &error)))
            .collect::<io::Result<Vec<_>>>()?;
        let stop = StopHandle::new(pollers.iter().map(wake_of).collect());
        // What has been started until then ends.
        let codec = (decoder, encoder);
        Job::launch(&config, pollers, stop.clone(), codec, output).inspect_err(|_| stop.halt())
    }

    fn launch<D: Decoder>(
        config: &Config,
        pollers: Vec<Poller>,
        stop: StopHandle,
        (decoder, encoder): (D, impl Encoder<D::Record>),
        output: impl Write + Send + 'static,
    ) -> io::Result<Job> {
        let (servers, count) = (config.servers(), pollers.len());
        let has_names = servers.iter().any(|server| matches!(server.host(), Host::Name(_)));
        let resolver = has_names.then(Resolver::start).transpose()?.map(Arc::new);
        let mut bell = Doorbell::new();
        let mut rings = Vec::new();
        let mut workers = Vec::new();
        for (index, poller) in pollers.into_iter().enumerate() {
            let slice = partition::slice(servers.len(), count, index);
            info!(
                "Task index {index} out of {count} allocated servers {} to {}",
                slice.start, slice.end
            );
            let waker = poller.waker();
            let (records, consumer) = ring(RING_CAPACITY, &bell, move || waker.wake());
            rings.push(consumer);
            let seed = SysRng.try_next_u64()?;
            let mut fleet = Fleet::new(
                index,
                Policy::from(config),
                decoder.clone(),
                Box::new(NoticeLog),
                seed,
                0,
            );
            for server in &servers[slice] {
                fleet.add(server.clone(), 0);
            }
            let worker = Worker::new(fleet, records, 0);
            let (resolver, stop) = (resolver.clone(), stop.clone());
            workers.push(spawn(&format!("worker-{index}"), move || {
                let _guard = StopOnPanic(stop.clone());
                worker.run(&mut Net::<Tcp>::new(poller, resolver, stop))
            })?);
        }
        let on_error = stop.clone();
        let guard = StopOnPanic(stop.clone());
        let output = spawn("output", move || {
            let _guard = guard;
            output::drain(rings, &mut bell, encoder, output, || on_error.halt())
        })?;
        Ok(Job { stop, servers: servers.len(), workers, output })
    }

    /// What stops this job, from any thread.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Waits for the end: until the job is [stopped](StopHandle::stop), its output is closed, or no
    /// server is left to dial. All that was read has been printed then.
    ///
    /// # Errors
    /// If the output failed, other than by being closed ([`io::ErrorKind::BrokenPipe`]).
    ///
    /// # Panics
    /// If one of the job's threads has panicked.
    pub fn wait(self) -> Result<Report, OutputError> {
        let mut counters = Counters::default();
        let mut failed = 0;
        for worker in self.workers {
            let (its_counters, its_failed) = join(worker);
            counters += its_counters;
            failed += its_failed;
        }
        let drained = join(self.output);
        let totals = Totals { servers: self.servers, counters, printed: drained.written };
        let is_asked = self.stop.is_asked();
        // Ctrl-C ends the reader in a pipeline, too, and as all is written that was read, the two do
        // not differ but in their order.
        let told = self.stop.output_error().filter(|error| !(is_asked && is_closed(error)));
        let reason = match more_telling(drained.error, told) {
            Some(error) if is_closed(&error) => ExitReason::OutputClosed,
            Some(error) => return Err(OutputError { error, lost: drained.lost, totals }),
            None if is_asked => ExitReason::Stopped,
            None => ExitReason::Finished { failed },
        };
        Ok(Report { reason, totals })
    }
}

fn wake_of(poller: &Poller) -> Wake {
    let waker = poller.waker();
    Box::new(move || waker.wake())
}

/// The most servers that are named in the warning of those that are listed more than once.
const REPEATED_NAMED: usize = 8;

/// The warning of servers that are listed more than once, whose numbers are printed as often.
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

/// The system refused the descriptors that the worker `index` waits with.
fn no_descriptors(index: usize, error: &io::Error) -> io::Error {
    let remedy = "raise the limit of open files (ulimit -n) or lower the parallelism (-p)";
    io::Error::new(error.kind(), format!("no descriptors for worker-{index}, {remedy}: {error}"))
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// Whether the reader of the output has gone.
fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// The error to report of those that a write and [`StopHandle::output_failed`] have met. The first of
/// them to see a lost connection takes its error, and the other one sees a closed one.
fn more_telling(written: Option<io::Error>, told: Option<io::Error>) -> Option<io::Error> {
    match written {
        Some(error) if !is_closed(&error) => Some(error),
        written => told.or(written),
    }
}

/// Makes the panic of one thread the end of the job, instead of a job that lacks a part.
struct StopOnPanic(StopHandle);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.halt();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::io::ErrorKind::{BrokenPipe, StorageFull, TimedOut};
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    #[test]
    fn refused_descriptors_are_named_with_the_remedy() {
        assert_eq!(
            no_descriptors(3, &io::Error::other("try again")).to_string(),
            "no descriptors for worker-3, \
             raise the limit of open files (ulimit -n) or lower the parallelism (-p): try again"
        );
    }

    #[test]
    fn at_most_eight_repeated_servers_are_named() {
        let warning = |count: u16| {
            let servers = (0..2 * count).map(|i| format!("a:{}", i % count + 1).parse().unwrap());
            repeated_warning(&servers.collect::<Vec<_>>())
        };
        let none = (1..=9).map(|port| format!("a:{port}").parse().unwrap()).collect::<Vec<_>>();
        assert_eq!(repeated_warning(&none), None);
        let eight =
            (1..=8).map(|port| format!("a:{port} (2 times)")).collect::<Vec<_>>().join(", ");
        let start = "Listed more than once, and read as often: ";
        assert_eq!(warning(1), Some(format!("{start}a:1 (2 times)")));
        assert_eq!(warning(8), Some(format!("{start}{eight}")));
        assert_eq!(warning(9), Some(format!("{start}{eight} and 1 other")));
        assert_eq!(warning(10), Some(format!("{start}{eight} and 2 others")));
    }

    /// A job with one server, which is connected and silent.
    fn idle_job() -> (Job, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string().parse().unwrap();
        let config = Config::builder().servers([server]).build().unwrap();
        (Job::start(config, io::sink()).unwrap(), listener)
    }

    #[test]
    fn a_job_whose_servers_have_all_ended_has_finished() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // A bound port that nothing listens on refuses connections.
        let down = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        down.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let down_address = down.local_addr().unwrap().as_socket().unwrap();
        let addresses = [listener.local_addr().unwrap(), down_address];
        let servers = addresses.map(|address| address.to_string().parse().unwrap());
        let config = Config::builder().servers(servers).once(true).build().unwrap();
        let job = Job::start(config, io::sink()).unwrap();
        drop(listener.accept().unwrap());
        let report = job.wait().unwrap();
        assert_eq!(report.reason, ExitReason::Finished { failed: 1 });
        assert!(!report.is_success());
    }

    #[test]
    fn an_output_that_is_closed_while_nothing_comes_ends_the_job() {
        let (job, _listener) = idle_job();
        job.stop_handle().output_failed(BrokenPipe.into());
        assert!(job.stop_handle().is_stopped());
        let report = job.wait().unwrap();
        assert_eq!(report.reason, ExitReason::OutputClosed);
        assert!(report.is_success());
    }

    #[test]
    fn an_output_that_fails_while_nothing_comes_fails_the_job() {
        let (job, _listener) = idle_job();
        job.stop_handle().output_failed(io::Error::new(TimedOut, "the reader does not answer"));
        // That came of it.
        job.stop_handle().output_failed(BrokenPipe.into());
        let error = job.wait().unwrap_err();
        assert_eq!((error.kind(), error.lost()), (TimedOut, 0));
        assert!(error.to_string().contains("the reader does not answer"), "{error}");
    }

    #[test]
    fn a_job_that_is_stopped_while_its_output_is_closed_was_stopped() {
        for is_stopped_first in [false, true] {
            let (job, _listener) = idle_job();
            let stop = job.stop_handle();
            if is_stopped_first {
                stop.stop();
            }
            stop.output_failed(BrokenPipe.into());
            stop.stop();
            assert_eq!(job.wait().unwrap().reason, ExitReason::Stopped);
        }
    }

    #[test]
    fn an_output_that_fails_fails_a_job_that_was_stopped_too() {
        let (job, _listener) = idle_job();
        job.stop_handle().stop();
        job.stop_handle().output_failed(TimedOut.into());
        assert_eq!(job.wait().unwrap_err().kind(), TimedOut);
    }

    #[test]
    fn of_two_errors_of_the_output_the_one_that_says_more_is_reported() {
        let kinds = [
            ((None, None), None),
            ((Some(BrokenPipe), None), Some(BrokenPipe)),
            ((None, Some(TimedOut)), Some(TimedOut)),
            ((Some(BrokenPipe), Some(TimedOut)), Some(TimedOut)),
            ((Some(StorageFull), Some(BrokenPipe)), Some(StorageFull)),
            ((Some(StorageFull), Some(TimedOut)), Some(StorageFull)),
        ];
        for ((written, told), expected) in kinds {
            let error = more_telling(written.map(io::Error::from), told.map(io::Error::from));
            assert_eq!(error.map(|error| error.kind()), expected);
        }
    }
}
