//! Changes the servers of a running job.

use std::fmt;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use crate::address::Server;
use crate::config::servers::{Difference, difference};
use crate::net::Waker;
use crate::partition::Shard;
use crate::proto::worker::Change;
use crate::stats::Stats;

/// Changes the servers of a running [`Job`](crate::Job), from any thread.
///
/// All clones of a handle belong to the same job. After the end of the job, changes have no effect.
#[derive(Clone)]
pub struct ServersHandle(Arc<Shared>);

struct Shared {
    stats: Arc<Stats>,
    /// The part of each list that the job dials; `None` is the whole list.
    shard: Option<Shard>,
    workers: Vec<Inbox>,
    /// Is held during a change. Two changes at once would each miss what the other does.
    changing: Mutex<()>,
}

/// The inbox of a worker.
pub(super) struct Inbox {
    pub(super) changes: Sender<Change>,
    pub(super) waker: Waker,
}

/// The effect of [`ServersHandle::replace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replaced {
    /// The servers that stay. Each keeps its connection, its unfinished line, its back-off and its counters.
    pub kept: usize,
    /// The servers that are new.
    pub added: usize,
    /// The servers that are gone. Their connections are closed.
    pub removed: usize,
}

impl ServersHandle {
    pub(super) fn new(
        stats: Arc<Stats>,
        shard: Option<Shard>,
        workers: Vec<Inbox>,
    ) -> ServersHandle {
        ServersHandle(Arc::new(Shared { stats, shard, workers, changing: Mutex::new(()) }))
    }

    /// Replaces the list of servers.
    ///
    /// A server whose host, port and name are in both lists stays as it is. If a server is listed more than
    /// once, each occurrence stays for one in the new list. A new server goes to the worker with the fewest servers.
    /// No record is lost or doubled: a record that was read before its server was removed is written.
    ///
    /// A job with a [`shard`](crate::ConfigBuilder::shard) dials its part of the list. The result counts that part.
    ///
    /// The workers carry it out in their next turns. The effect on them is bounded, so a long list takes several
    /// turns.
    pub fn replace(&self, servers: impl IntoIterator<Item = Server>) -> Replaced {
        let Shared { stats, shard, workers, changing } = &*self.0;
        // A panic of another thread leaves a list that is complete.
        let _changing = changing.lock().unwrap_or_else(PoisonError::into_inner);
        let list = stats.servers();
        let new: Vec<Server> = servers.into_iter().collect();
        let new = match shard {
            Some(shard) => shard.part(&new),
            None => new,
        };
        let old: Vec<Server> = list.iter().map(|server| server.server().clone()).collect();
        let Difference { kept, removed, added } = difference(&old, &new);
        let mut present = vec![None; new.len()];
        let mut load = vec![0_usize; workers.len()];
        for (old, new) in kept {
            load[list[old].worker()] += 1;
            present[new] = Some(Arc::clone(&list[old]));
        }
        let removed: Vec<_> = removed.into_iter().map(|old| Arc::clone(&list[old])).collect();
        let added: Vec<_> = added
            .into_iter()
            .map(|index| {
                let worker = least(&load);
                load[worker] += 1;
                let server = stats.new_server(worker, new[index].clone());
                present[index] = Some(Arc::clone(&server));
                server
            })
            .collect();
        let present: Vec<_> = present.into_iter().flatten().collect();
        let replaced = Replaced {
            kept: present.len() - added.len(),
            added: added.len(),
            removed: removed.len(),
        };
        // The list comes first, so that a worker that ends its last server finds the new ones.
        stats.set_servers(present, removed.clone());
        // The removals come first, so that their descriptors are free for the new servers.
        for server in removed {
            self.send(server.worker(), Change::Remove(server));
        }
        for server in added {
            self.send(server.worker(), Change::Add(server));
        }
        self.wake();
        replaced
    }

    /// Begins the next attempt of all servers that wait for one, without waiting for the end of the delay.
    pub fn retry_now(&self) {
        for index in 0..self.0.workers.len() {
            self.send(index, Change::RetryNow);
        }
        self.wake();
    }

    /// Lets each worker do a turn.
    pub(crate) fn wake(&self) {
        for worker in &self.0.workers {
            worker.waker.wake();
        }
    }

    /// Notes whether the list was read again, for the metrics.
    #[cfg(all(feature = "cli", unix))]
    pub(crate) fn note_reload(&self, is_successful: bool) {
        self.0.stats.note_reload(is_successful);
    }

    fn send(&self, worker: usize, change: Change) {
        // A worker that has ended takes no changes.
        _ = self.0.workers[worker].changes.send(change);
    }
}

/// Returns the index of the smallest load, the first one of several.
fn least(load: &[usize]) -> usize {
    (0..load.len()).min_by_key(|index| load[*index]).expect("there is a worker")
}

impl fmt::Debug for ServersHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServersHandle").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
