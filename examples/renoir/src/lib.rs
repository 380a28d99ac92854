//! Makes tcpcore a source of [Renoir]'s dataflow, which runs on many machines.
//!
//! [Renoir]: https://github.com/deib-polimi/renoir

use std::fmt;
use std::io;
use std::mem;
use std::sync::mpsc::{Receiver, RecvError, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use renoir::operator::source::Source;
use renoir::operator::{Operator, StreamElement};
use renoir::structure::{BlockStructure, OperatorKind, OperatorStructure};
use renoir::{ExecutionMetadata, Replication};
use tcpcore::{ConfigBuilder, ConfigError, ExitReason, Job, Server, Shard, ShardBy, StopHandle};

/// The records between a job and its replica. The job waits while there are as many.
const CHANNEL_RECORDS: usize = 1024;

/// A source of the numbers of many servers.
///
/// Each replica runs a [`Job`] with its shard of the servers. A replica that is behind slows its servers down by
/// TCP: no number is dropped. The stream ends when all servers were read to their end, as with
/// [`ConfigBuilder::once`], or when a [`SourceHandle`] stops it.
pub struct TcpSource {
    settings: ConfigBuilder,
    servers: Arc<[Server]>,
    handle: SourceHandle,
    state: State,
}

/// The state of a replica.
enum State {
    /// Is not set up, or has nothing to read.
    New,
    Running(Running),
    Ended,
}

struct Running {
    job: Job,
    replica: String,
    records: Receiver<i64>,
    /// Whether the operators that follow have sent their batches since the last record.
    is_flushed: bool,
}

impl TcpSource {
    /// Makes a source of `servers`, with a handle of its replicas in this process. A job's number of workers is 1,
    /// whatever `settings` say, because there is a replica per core.
    ///
    /// # Errors
    ///
    /// Fails if there is no server or a setting is out of its bounds.
    pub fn new(
        settings: ConfigBuilder,
        servers: Vec<Server>,
    ) -> Result<(TcpSource, SourceHandle), ConfigError> {
        let settings = settings.parallelism(1);
        let config = settings.clone().servers(servers).build()?;
        let (servers, handle) = (config.servers().into(), SourceHandle::default());
        Ok((TcpSource { settings, servers, handle: handle.clone(), state: State::New }, handle))
    }

    /// Returns the state of replica `index` of `count`, with its job started.
    fn start(&self, index: usize, count: usize) -> io::Result<State> {
        let [index, count] = [index, count].map(|n| u32::try_from(n).expect("replicas are few"));
        let shard = Shard::new(index, count, ShardBy::Slice).map_err(io::Error::other)?;
        let servers = shard.part(&self.servers);
        let replica = format!("Replica index {index} out of {count}");
        log::info!("{replica} reads {} of {} servers", servers.len(), self.servers.len());
        if servers.is_empty() {
            return Ok(State::New);
        }
        let config = self.settings.clone().servers(servers).build().map_err(io::Error::other)?;
        let (sender, records) = sync_channel(CHANNEL_RECORDS);
        let job = Job::builder(config).for_each(move |_origin, number| {
            // The receiver is gone only if the replica has failed. Its job is then stopped.
            _ = sender.send(*number);
        })?;
        self.handle.add(job.stop_handle());
        Ok(State::Running(Running { job, replica, records, is_flushed: true }))
    }
}

impl Running {
    /// Returns the next element, or `None` at the end of the job.
    fn next(&mut self) -> Option<StreamElement<i64>> {
        let record = match self.records.try_recv() {
            Err(TryRecvError::Empty) if !self.is_flushed => {
                // Otherwise a batch would wait for the next record.
                self.is_flushed = true;
                return Some(StreamElement::FlushBatch);
            }
            Err(TryRecvError::Empty) => self.records.recv(),
            Err(TryRecvError::Disconnected) => Err(RecvError),
            Ok(record) => Ok(record),
        };
        self.is_flushed = false;
        record.ok().map(StreamElement::Item)
    }

    /// Waits for the end of the job, and returns its failure.
    fn wait(self) -> Result<(), String> {
        let replica = self.replica;
        let report = self.job.wait().map_err(|error| format!("{replica}: {error}"))?;
        log::info!("{replica} has ended: {}", report.totals);
        match report.reason {
            ExitReason::Finished { failed: failed @ 1.. } => {
                Err(format!("{replica}: {failed} of {} servers failed", report.totals.servers))
            }
            _ => Ok(()),
        }
    }
}

impl Source for TcpSource {
    fn replication(&self) -> Replication {
        Replication::Unlimited
    }
}

impl Operator for TcpSource {
    type Out = i64;

    fn setup(&mut self, metadata: &mut ExecutionMetadata) {
        let index = usize::try_from(metadata.global_id).expect("it is an index");
        match self.start(index, metadata.replicas.len()) {
            Ok(state) => self.state = state,
            Err(error) => self.handle.fail(format!("Replica index {index}: {error}")),
        }
    }

    fn next(&mut self) -> StreamElement<i64> {
        if let State::Running(running) = &mut self.state
            && let Some(element) = running.next()
        {
            return element;
        }
        match mem::replace(&mut self.state, State::Ended) {
            State::Ended => return StreamElement::Terminate,
            State::Running(running) => {
                if let Err(failure) = running.wait() {
                    self.handle.fail(failure);
                }
            }
            State::New => {}
        }
        StreamElement::FlushAndRestart
    }

    fn structure(&self) -> BlockStructure {
        let mut operator = OperatorStructure::new::<i64, _>("TcpSource");
        operator.kind = OperatorKind::Source;
        BlockStructure::default().add_operator(operator)
    }
}

/// Makes a replica that is not set up, as Renoir clones only those.
impl Clone for TcpSource {
    fn clone(&self) -> Self {
        let (settings, servers) = (self.settings.clone(), Arc::clone(&self.servers));
        TcpSource { settings, servers, handle: self.handle.clone(), state: State::New }
    }
}

/// Stops the job of a replica whose thread has failed.
impl Drop for TcpSource {
    fn drop(&mut self) {
        if let State::Running(running) = &self.state {
            running.job.stop_handle().stop();
        }
    }
}

impl fmt::Display for TcpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpSource of {} servers", self.servers.len())
    }
}

/// Stops the replicas of a source in this process, and collects their failures.
#[derive(Clone, Debug, Default)]
pub struct SourceHandle(Arc<Mutex<Replicas>>);

#[derive(Debug, Default)]
struct Replicas {
    is_stopped: bool,
    jobs: Vec<StopHandle>,
    failures: Vec<String>,
}

impl SourceHandle {
    /// Stops the replicas, also those that start later. The numbers that they have read remain in the stream.
    pub fn stop(&self) {
        let mut replicas = self.replicas();
        replicas.is_stopped = true;
        replicas.jobs.iter().for_each(StopHandle::stop);
    }

    /// Returns the failures so far, one text per replica: a job did not start, or servers failed.
    pub fn failures(&self) -> Vec<String> {
        self.replicas().failures.clone()
    }

    fn add(&self, job: StopHandle) {
        let mut replicas = self.replicas();
        if replicas.is_stopped {
            job.stop();
        }
        replicas.jobs.push(job);
    }

    fn fail(&self, failure: String) {
        log::error!("{failure}");
        self.replicas().failures.push(failure);
    }

    fn replicas(&self) -> MutexGuard<'_, Replicas> {
        // No panic leaves a part of a change behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;
    use std::time::Duration;
    use tcpcore::Config;

    #[test]
    fn a_source_without_servers_is_refused() {
        assert!(TcpSource::new(Config::builder(), Vec::new()).is_err());
    }

    #[test]
    fn a_replica_that_is_dropped_stops_its_job() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string().parse().unwrap();
        let (mut source, _handle) = TcpSource::new(Config::builder(), vec![server]).unwrap();
        source.state = source.start(0, 1).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        drop(source);
        peer.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "the connection is closed");
    }

    #[test]
    fn a_replica_that_starts_after_the_stop_ends_at_once() {
        // Nothing listens there.
        let server = "127.0.0.1:1".parse().unwrap();
        // It bounds the time in which the test fails.
        let settings = Config::builder().give_up_after(Duration::from_secs(60));
        let (mut source, handle) = TcpSource::new(settings, vec![server]).unwrap();
        handle.stop();
        source.state = source.start(0, 1).unwrap();
        assert_eq!(source.next(), StreamElement::FlushAndRestart);
        assert_eq!(source.next(), StreamElement::Terminate);
        assert_eq!(handle.failures(), [""; 0]);
    }
}
