//! Reports the state of the job to systemd: see sd_notify(3).

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use sd_notify::NotifyState;

use super::report::headline;
use crate::job::ServersHandle;
use crate::stats::Stats;

/// The time between two reports of the number of connected servers.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// The shortest time between two reports, so that a watchdog of microseconds costs no processor.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// The time after which a message is sent again that the socket of systemd had no room for: 100 ms.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The connection to systemd, if there is one. It never blocks.
#[derive(Debug)]
pub(super) struct Systemd {
    peer: Option<Peer>,
    /// The messages that wait for room in the socket of systemd, in their order. They are at most three, because a new
    /// one takes the place of those that it supersedes.
    waiting: Vec<String>,
    /// The time after which a service that has not reported is restarted.
    watchdog: Option<Duration>,
    /// The turns of each worker at the last report.
    turns: Vec<u64>,
    /// The last status that was sent.
    status: String,
    is_stopping: bool,
}

/// Systemd's end of the connection.
#[derive(Debug)]
struct Peer {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Peer {
    fn new(path: PathBuf) -> io::Result<Peer> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Peer { socket, path })
    }

    /// Sends a message. Returns whether to send it again later.
    fn send(&self, message: &str) -> ControlFlow<()> {
        match self.socket.send_to(message.as_bytes(), &self.path) {
            // Some systems report a full socket so.
            Err(error)
                if error.kind() == ErrorKind::WouldBlock
                    || Errno::from_io_error(&error) == Some(Errno::NOBUFS) =>
            {
                ControlFlow::Break(())
            }
            // Systemd restarts what does not report, so there is nothing else to do about another error.
            Ok(_) | Err(_) => ControlFlow::Continue(()),
        }
    }
}

impl Systemd {
    /// Makes it from `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(super) fn from_env() -> Systemd {
        let peer = std::env::var_os("NOTIFY_SOCKET").and_then(|path| Peer::new(path.into()).ok());
        let watchdog = sd_notify::watchdog_enabled();
        let watchdog = watchdog.filter(|watchdog| peer.is_some() && !watchdog.is_zero());
        let (waiting, turns, status) = Default::default();
        Systemd { peer, waiting, watchdog, turns, status, is_stopping: false }
    }

    /// Returns the time between two calls of [`report`](Self::report); `None` without systemd.
    pub(super) fn interval(&self) -> Option<Duration> {
        let half = |watchdog: Duration| (watchdog / 2).max(SHORTEST_INTERVAL);
        self.peer
            .is_some()
            .then(|| self.watchdog.map_or(STATUS_INTERVAL, half).min(STATUS_INTERVAL))
    }

    /// Says that the list is loaded and the threads run.
    pub(super) fn ready(&mut self, stats: &Stats) {
        if self.is_stopping || self.peer.is_none() {
            return;
        }
        self.status = headline(&stats.snapshot());
        let ready = message(&[NotifyState::Ready, NotifyState::Status(&self.status)]);
        self.waiting.retain(|waiting| waiting.starts_with(RELOADING));
        self.send(ready);
    }

    /// Returns whether the job stops.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Says that the list is being read again.
    pub(super) fn reloading(&mut self) {
        if self.is_stopping || self.peer.is_none() {
            return;
        }
        let now = NotifyState::monotonic_usec_now().ok();
        let states: Vec<_> = [NotifyState::Reloading].into_iter().chain(now).collect();
        // READY follows the reload.
        self.waiting.clear();
        self.send(message(&states));
    }

    /// Says once that the job stops.
    pub(super) fn stopping(&mut self) {
        if !std::mem::replace(&mut self.is_stopping, true) {
            self.waiting.clear();
            self.send(message(&[NotifyState::Stopping]));
        }
    }

    /// Returns the time to the next call of [`retry`](Self::retry), if a message waits.
    pub(super) fn retry_in(&self) -> Option<Duration> {
        (!self.waiting.is_empty()).then_some(RETRY_INTERVAL)
    }

    /// Sends the messages that wait, as far as there is room.
    pub(super) fn retry(&mut self) {
        let Some(peer) = &self.peer else { return };
        let sent = self.waiting.iter().take_while(|waiting| peer.send(waiting).is_continue());
        let sent = sent.count();
        self.waiting.drain(..sent);
    }

    /// Reports the number of connected servers, if it has changed. Tells the watchdog that the job is alive, if each
    /// worker has done a turn since the last report.
    pub(super) fn report(&mut self, stats: &Stats, servers: &ServersHandle) {
        let status = headline(&stats.snapshot());
        if status != self.status
            && !self.is_stopping
            && self.waiting.is_empty()
            && let Some(peer) = &self.peer
            && peer.send(&message(&[NotifyState::Status(&status)])).is_continue()
        {
            self.status = status;
        }
        if self.watchdog.is_none() {
            return;
        }
        let turns = stats.turns();
        let has_turned = |(now, before): (&u64, &u64)| now != before;
        // The first report has nothing to compare with, and workers that have stopped do no turns.
        if self.turns.is_empty()
            || self.is_stopping
            || turns.iter().zip(&self.turns).all(has_turned)
        {
            let watchdog = message(&[NotifyState::Watchdog]);
            self.waiting.retain(|waiting| *waiting != watchdog);
            self.send(watchdog);
        }
        self.turns = turns;
        // A worker without work does a turn, too, for the next report.
        servers.wake();
    }

    /// Sends a message after those that wait.
    fn send(&mut self, message: String) {
        if self.peer.is_some() {
            self.waiting.push(message);
            self.retry();
        }
    }
}

/// The start of the message that the list is being read again.
const RELOADING: &str = "RELOADING=1\n";

fn message(states: &[NotifyState<'_>]) -> String {
    states.iter().map(|state| format!("{state}\n")).collect()
}
