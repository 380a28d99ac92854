//! Handles signals: the first one stops a job, a second one ends the process, and some are requests.

use std::fs;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::AcqRel;
use std::sync::mpsc::Sender;
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

pub use crate::proto::stopping::Request;

/// Makes a write beyond the limit of file sizes (`ulimit -f`) fail with an error.
///
/// Without a handler, SIGXFSZ ends the process, and no message names the error.
///
/// # Errors
///
/// Fails if the system refuses the handler.
pub fn survive_sigxfsz() -> io::Result<()> {
    // With any handler the write itself returns the error. This one sets a flag that has no reader.
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(())
}

/// A message to the thread that carries out requests. Without a receiver it is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A signal is a request.
    Request(Request),
    /// The first signal that stops the job has come.
    Stopping,
    /// The job has ended. The main thread sends it.
    Ended,
}

/// Catches SIGINT, SIGTERM and SIGHUP, also before there is a job to stop.
///
/// The first of them stops the job that [`stop`](Self::stop) sets, also if it arrives earlier. Further
/// signals within 500 ms count as repeats, because some senders such as `timeout` send two. A later signal
/// ends the process immediately, because a job cannot end while its output is stuck. The status is then 128
/// plus the signal's number.
///
/// SIGUSR1, SIGUSR2 and, if there is a list file, SIGHUP are requests: see [`Request`]. They are sent on, also
/// before there is a job.
///
/// A signal that was ignored at the start of the process stays ignored, as `nohup` and the background jobs of
/// a script require. Only Linux lists these signals, in `/proc/self/status`. Without the list they are caught.
#[derive(Debug)]
pub struct CaughtSignals(Arc<Shared>);

/// The state that the signal thread and the main thread share.
#[derive(Debug, Default)]
struct Shared {
    job: OnceLock<StopHandle>,
    /// Whether one of two events has happened: the job's start or the signal. The second event stops the job.
    has_one_arrived: AtomicBool,
    /// The first signal, set before the job is stopped.
    signal: OnceLock<i32>,
    /// Set when the log has the line about the signal, or cannot get it.
    is_logged: OnceLock<()>,
}

impl CaughtSignals {
    /// Catches the signals from now on. `reloads` says whether SIGHUP is a request.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses the handlers or the thread that waits for the signals.
    pub fn catch(reloads: bool, messages: Sender<Message>) -> io::Result<Self> {
        let ignored = own_ignored_mask();
        let signals = Signals::new(CAUGHT.into_iter().filter(|&signal| !is_in(ignored, signal)))?;
        let shared = Arc::new(Shared::default());
        let caught = Self(Arc::clone(&shared));
        // The thread runs from the start, so that a signal gets the time of its arrival. A second signal
        // ends the process even while the job starts.
        threads::spawn("signals", move || {
            watch(signals, Stopping::new(reloads), &messages, &shared)
        })?;
        Ok(caught)
    }

    /// Sets the job that the first signal stops. Stops it now if that signal has already arrived.
    ///
    /// Only the first job that is set is stopped.
    pub fn stop(&self, job: StopHandle) {
        if self.0.job.set(job).is_ok() {
            self.0.arrive();
        }
    }

    /// Waits until the line about the first signal is logged, if a signal has arrived.
    ///
    /// A process that ends earlier may lose that line.
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
        // A logger may block. The line has a thread of its own, so that the second signal is still handled.
        // Without that thread the line is missing, and the job still stops.
        _ = threads::spawn("signals-log", log);
    }

    /// Notes that the job has started or the first signal has arrived. The second call stops the job.
    fn arrive(&self) {
        if self.has_one_arrived.swap(true, AcqRel)
            && let Some(job) = self.job.get()
        {
            job.stop();
        }
    }
}

/// Sets [`Shared::is_logged`] when dropped.
///
/// The thread that logs drops it, even if its logger panics. If the thread is refused, its closure is dropped.
struct Logged(Arc<Shared>);

impl Drop for Logged {
    fn drop(&mut self) {
        _ = self.0.is_logged.set(());
    }
}

fn watch(
    mut signals: Signals,
    mut stopping: Stopping,
    messages: &Sender<Message>,
    shared: &Arc<Shared>,
) -> ! {
    let start = Instant::now();
    loop {
        let found = match stopping.pause(start.elapsed()) {
            None => signals.wait(),
            Some(pause) => {
                thread::sleep(pause);
                signals.pending()
            }
        };
        // The time is read first. So all signals that arrived earlier are among those taken below.
        let now = start.elapsed();
        for signal in found {
            match stopping.on_signal(signal, now) {
                Decision::Stop => {
                    _ = messages.send(Message::Stopping);
                    shared.on_first_signal(signal);
                }
                Decision::Nothing => {}
                Decision::Request(request) => _ = messages.send(Message::Request(request)),
                // Flushes nothing and runs no destructor, so that nothing can block the exit.
                Decision::EndNow { status } => low_level::exit(status),
            }
        }
        stopping.on_look(now);
    }
}

/// Returns the mask of the signals that this process ignores, or 0 if the system does not list them.
fn own_ignored_mask() -> u128 {
    let status = fs::read_to_string("/proc/self/status").ok();
    status.and_then(|status| ignored_mask(&status)).unwrap_or(0)
}

/// Parses the mask of ignored signals in a `/proc/PID/status` of Linux. Signal 1 is the lowest bit.
///
/// MIPS has 128 signals, all other systems 64.
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

    /// Makes an instance without handlers, which would affect all tests.
    fn caught() -> CaughtSignals {
        CaughtSignals(Arc::new(Shared::default()))
    }

    #[test]
    fn a_signal_stops_the_job_whether_it_arrives_before_or_after_its_start() {
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
    fn a_wait_for_the_log_line_waits_only_after_a_signal() {
        caught().wait_logged();
        // Repeated, because a wait that returns too early may still return late by chance.
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
    fn a_logger_that_panics_does_not_block_the_wait() {
        let caught = caught();
        let logged = Logged(Arc::clone(&caught.0));
        let log = thread::spawn(move || {
            let _logged = logged;
            panic!("the test expects this panic");
        });
        assert!(log.join().is_err());
        assert!(caught.0.is_logged.get().is_some());
    }

    #[test]
    fn the_mask_of_ignored_signals_comes_from_the_line_sigign() {
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
        assert!(ignored(0).is_empty());
        assert_eq!(ignored(0x1003), [SIGHUP, SIGINT, SIGPIPE]);
        assert_eq!(ignored(1 << 127), [128]);
    }
}
