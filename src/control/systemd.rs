//! Reports the state of the job to systemd: see sd_notify(3).

use std::time::Duration;

use sd_notify::NotifyState;

use super::report::headline;
use crate::job::ServersHandle;
use crate::stats::Stats;

/// The time between two reports of the number of connected servers.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// The shortest time between two reports, so that a watchdog of microseconds costs no processor.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// The connection to systemd, if there is one.
#[derive(Debug)]
pub(super) struct Systemd {
    is_there: bool,
    /// The time after which systemd restarts a service that has not reported.
    watchdog: Option<Duration>,
    /// The turns of each worker at the last report.
    turns: Vec<u64>,
    status: String,
    is_stopping: bool,
}

impl Systemd {
    /// Makes it from `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(super) fn from_env() -> Systemd {
        let is_there = std::env::var_os("NOTIFY_SOCKET").is_some();
        let watchdog = sd_notify::watchdog_enabled();
        let watchdog = watchdog.filter(|watchdog| is_there && !watchdog.is_zero());
        Systemd { is_there, watchdog, turns: Vec::new(), status: String::new(), is_stopping: false }
    }

    /// Returns the time between two calls of [`report`](Self::report); `None` without systemd.
    pub(super) fn interval(&self) -> Option<Duration> {
        let half = |watchdog: Duration| (watchdog / 2).max(SHORTEST_INTERVAL);
        self.is_there.then(|| self.watchdog.map_or(STATUS_INTERVAL, half).min(STATUS_INTERVAL))
    }

    /// Says that the list is loaded and the threads run.
    pub(super) fn ready(&mut self, stats: &Stats) {
        if self.is_stopping || !self.is_there {
            return;
        }
        self.status = headline(&stats.snapshot());
        self.send(&[NotifyState::Ready, NotifyState::Status(&self.status)]);
    }

    /// Returns whether the job stops.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Says that the list is being read again.
    pub(super) fn reloading(&self) {
        let now = NotifyState::monotonic_usec_now();
        match now {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(_) => self.send(&[NotifyState::Reloading]),
        }
    }

    /// Says once that the job stops.
    pub(super) fn stopping(&mut self) {
        if !std::mem::replace(&mut self.is_stopping, true) {
            self.send(&[NotifyState::Stopping]);
        }
    }

    /// Reports the number of connected servers, if it has changed. Tells the watchdog that the job is alive, if each
    /// worker has done a turn since the last report.
    pub(super) fn report(&mut self, stats: &Stats, servers: &ServersHandle) {
        let status = headline(&stats.snapshot());
        if status != self.status && !self.is_stopping {
            self.status = status;
            self.send(&[NotifyState::Status(&self.status)]);
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
            self.send(&[NotifyState::Watchdog]);
        }
        self.turns = turns;
        // A worker without work does a turn, too, for the next report.
        servers.wake();
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        if self.is_there {
            // Systemd restarts what does not report, so there is nothing else to do about an error.
            _ = sd_notify::notify(states);
        }
    }
}
