//! Signals: the first one stops a job, the second one ends the process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use log::info;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use signal_hook::low_level;

use crate::run::StopHandle;

/// From now on the first SIGINT or SIGTERM stops the job, and a second one ends the process at
/// once, with 128 and its number as the status: the job cannot come to its end while its output is
/// stuck.
///
/// # Errors
///
/// The system refuses the handlers or the thread that waits for the signals.
pub fn stop_on_signals(stop: StopHandle) -> io::Result<()> {
    CaughtSignals::catch()?.stop(stop)
}

/// SIGINT and SIGTERM, caught before there is a job that they could stop.
///
/// Between the start of a job and [`stop_on_signals`], a signal would end the process with nothing
/// flushed. One that is caught here waits for [`stop`](Self::stop).
#[derive(Debug)]
pub struct CaughtSignals(Signals);

impl CaughtSignals {
    /// Catches the signals from now on.
    ///
    /// # Errors
    ///
    /// The system refuses the handlers.
    pub fn catch() -> io::Result<Self> {
        // In this order: the first signal finds the flag down and puts it up, a second one finds it up. In
        // the handler itself, as the thread below may wait for a log that nobody reads.
        let is_second = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&is_second))?;
        }
        for signal in [SIGINT, SIGTERM] {
            flag::register(signal, Arc::clone(&is_second))?;
        }
        Ok(Self(Signals::new([SIGINT, SIGTERM])?))
    }

    /// Does with them, and those caught so far, what [`stop_on_signals`] says.
    ///
    /// # Errors
    ///
    /// The system refuses the thread that waits for the signals.
    pub fn stop(mut self, stop: StopHandle) -> io::Result<()> {
        thread::Builder::new().name("signals".into()).spawn(move || {
            let mut signals = self.0.forever();
            if let Some(signal) = signals.next() {
                stop.stop();
                let name = low_level::signal_name(signal).unwrap_or("a signal");
                info!("Stopping on {name}; a second signal ends at once");
            }
        })?;
        Ok(())
    }
}
