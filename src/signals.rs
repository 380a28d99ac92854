//! Signals: the first one stops a job, a second one ends the process.

use std::fs;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::AcqRel;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Instant;

use log::info;
use signal_hook::consts::SIGXFSZ;
use signal_hook::flag;
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use crate::proto::stopping::{CAUGHT, Decision, REPEAT_WINDOW, Stopping};
use crate::stop::StopHandle;
use crate::threads;

/// Makes a write beyond the limit of file sizes (`ulimit -f`) fail like any other write, instead of
/// ending the process by SIGXFSZ with no error named.
///
/// # Errors
///
/// The system refuses the handler.
pub fn survive_sigxfsz() -> io::Result<()> {
    // With a handler the write itself returns the error. A handler has to do something: it sets a flag.
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(())
}

/// SIGINT, SIGTERM and SIGHUP, caught before there is a job that they could stop.
///
/// The first of them stops the job that [`stop`](Self::stop) names, once it is named. Those that follow
/// within 500 ms are repeats: `timeout`, for one, sends two. A later one ends the process at once, with
/// 128 and its number as the status, because a job cannot end while its output is stuck.
///
/// SIGUSR1 and SIGUSR2 are caught and ignored.
///
/// A signal that was ignored when the process started stays ignored, as `nohup` and a script's
/// background jobs want it. Only Linux tells which ones these are (in `/proc/self/status`); elsewhere,
/// or without `/proc`, they are caught.
#[derive(Debug)]
pub struct CaughtSignals(Arc<Shared>);

/// What the thread that waits for signals shares with the one that runs the job.
#[derive(Debug, Default)]
struct Shared {
    job: OnceLock<StopHandle>,
    /// Set by the first of two events, the job's start and the signal, so that the second stops the job.
    has_one_arrived: AtomicBool,
    /// The first signal, set before the job is stopped.
    signal: OnceLock<i32>,
    is_logged: OnceLock<()>,
}

impl CaughtSignals {
    /// Catches the signals from now on.
    ///
    /// # Errors
    ///
    /// The system refuses the handlers or the thread that waits for the signals.
    pub fn catch() -> io::Result<Self> {
        let ignored = own_ignored_mask();
        let signals = Signals::new(CAUGHT.into_iter().filter(|&signal| !is_in(ignored, signal)))?;
        let shared = Arc::new(Shared::default());
        let caught = Self(Arc::clone(&shared));
        // From the start, so that a signal has the time at which it came, and a second one ends the
        // process even while the job is being started.
        threads::spawn("signals", move || watch(signals, &shared))?;
        Ok(caught)
    }

    /// Stops this job at the first signal, or now if that has come already.
    ///
    /// Only the first job that is named is stopped.
    pub fn stop(&self, job: StopHandle) {
        if self.0.job.set(job).is_ok() {
            self.0.arrive();
        }
    }

    /// Returns once the log says that a signal has stopped the job, if one has. A process that ends
    /// earlier may lose that line.
    pub fn wait_logged(&self) {
        if self.0.signal.get().is_some() {
            self.0.is_logged.wait();
        }
    }
}

impl Shared {
    fn on_first_signal(self: &Arc<Self>, signal: i32) {
        let is_first = self.signal.set(signal).is_ok();
        debug_assert!(is_first, "there is one first signal");
        self.arrive();
        let logged = Logged(Arc::clone(self));
        let log = move || {
            let name = low_level::signal_name(signal).unwrap_or("a signal");
            let window = REPEAT_WINDOW.as_secs_f64();
            info!("Stopping on {name}; a second signal after {window} s ends at once");
            drop(logged);
        };
        // On a thread of its own, since a logger may block, and the second signal must be seen. If the
        // system grants no thread, the line is missing, and the job stops all the same.
        _ = threads::spawn("signals-log", log);
    }

    /// Called once when the job is known and once when the signal is; the later call stops the job.
    fn arrive(&self) {
        if self.has_one_arrived.swap(true, AcqRel)
            && let Some(job) = self.job.get()
        {
            job.stop();
        }
    }
}

/// Sets [`Shared::is_logged`] when dropped: by the thread that logs, even if its logger panics, or with
/// the thread that was not granted.
struct Logged(Arc<Shared>);

impl Drop for Logged {
    fn drop(&mut self) {
        _ = self.0.is_logged.set(());
    }
}

fn watch(mut signals: Signals, shared: &Arc<Shared>) -> ! {
    let start = Instant::now();
    let mut stopping = Stopping::default();
    loop {
        let found = match stopping.pause(start.elapsed()) {
            None => signals.wait(),
            Some(pause) => {
                thread::sleep(pause);
                signals.pending()
            }
        };
        // Read before the signals are taken, one by one, so that none that came before it is left.
        let now = start.elapsed();
        for signal in found {
            match stopping.on_signal(signal, now) {
                Decision::Stop => shared.on_first_signal(signal),
                Decision::Nothing => {}
                // Nothing is flushed and no destructor runs: whatever is stuck, this is not.
                Decision::EndNow { status } => low_level::exit(status),
            }
        }
        stopping.on_look(now);
    }
}

/// The mask of the signals that this process ignores, as far as the system says so.
fn own_ignored_mask() -> u128 {
    let status = fs::read_to_string("/proc/self/status").ok();
    status.and_then(|status| ignored_mask(&status)).unwrap_or(0)
}

/// The mask of ignored signals in a `/proc/PID/status` of Linux: signal 1 is its lowest bit. At most 128
/// signals exist (on MIPS), elsewhere 64.
fn ignored_mask(status: &str) -> Option<u128> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u128::from_str_radix(mask.trim(), 16).ok()
}

fn is_in(mask: u128, signal: i32) -> bool {
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};
    use std::sync::Barrier;

    fn job() -> StopHandle {
        StopHandle::new(Vec::new())
    }

    /// Without handlers, which would be those of all tests.
    fn caught() -> CaughtSignals {
        CaughtSignals(Arc::new(Shared::default()))
    }

    #[test]
    fn a_signal_that_came_before_the_job_stops_it_and_so_does_one_that_comes_later() {
        let early = caught();
        early.0.on_first_signal(SIGTERM);
        early.stop(job());
        assert!(early.0.job.get().unwrap().is_stopped());

        let late = caught();
        late.stop(job());
        assert!(!late.0.job.get().unwrap().is_stopped());
        late.0.on_first_signal(SIGTERM);
        assert!(late.0.job.get().unwrap().is_stopped());
    }

    #[test]
    fn a_second_job_does_not_stop_the_first() {
        let caught = caught();
        let jobs = [job(), job()];
        for job in &jobs {
            caught.stop(job.clone());
        }
        assert!(jobs.iter().all(|job| !job.is_stopped()));
        caught.0.on_first_signal(SIGINT);
        assert_eq!(jobs.map(|job| job.is_stopped()), [true, false]);
    }

    #[test]
    fn the_log_is_waited_for_only_after_a_signal() {
        caught().wait_logged();
        // Often, as who does not wait may come late by chance.
        for _ in 0..100 {
            let caught = caught();
            caught.0.signal.set(SIGHUP).unwrap();
            let both_run = Barrier::new(2);
            thread::scope(|scope| {
                scope.spawn(|| {
                    both_run.wait();
                    caught.wait_logged();
                    assert!(caught.0.is_logged.get().is_some());
                });
                both_run.wait();
                thread::yield_now();
                caught.0.is_logged.set(()).unwrap();
            });
        }
    }

    #[test]
    fn the_first_signal_is_logged() {
        let caught = caught();
        caught.0.on_first_signal(SIGHUP);
        caught.0.is_logged.wait();
    }

    #[test]
    fn a_logger_that_panics_holds_nothing_up() {
        let caught = caught();
        let logged = Logged(Arc::clone(&caught.0));
        let log = thread::spawn(move || {
            let _logged = logged;
            panic!("as a test wants it");
        });
        assert!(log.join().is_err());
        assert!(caught.0.is_logged.get().is_some());
    }

    #[test]
    fn the_mask_of_ignored_signals_is_that_of_the_line_sigign() {
        let status = |mask| format!("SigBlk:\t00000000ffffffff\nSigIgn:\t{mask}\nSigCgt:\t0000\n");
        assert_eq!(ignored_mask(&status("0000000000001003")), Some(0x1003));
        let mips = "80000000000000000000000000000001";
        assert_eq!(ignored_mask(&status(mips)), Some(1 << 127 | 1));
        assert_eq!(ignored_mask(&status("none")), None);
        assert_eq!(ignored_mask("SigBlk:\t0000000000001003\n"), None);
    }

    #[test]
    fn signal_1_is_the_lowest_bit() {
        let ignored = |mask| (1..=128).filter(|&signal| is_in(mask, signal)).collect::<Vec<_>>();
        assert_eq!(ignored(0), []);
        assert_eq!(ignored(0x1003), [SIGHUP, SIGINT, SIGPIPE]);
        assert_eq!(ignored(1 << 127), [128]);
    }
}
