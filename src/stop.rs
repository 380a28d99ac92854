//! Stopping a job, from any thread.

use std::fmt;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, OnceLock};

/// Wakes one worker, from any thread.
pub(crate) type Wake = Box<dyn Fn() + Send + Sync>;

/// Stops a [`Job`](crate::Job): its servers are read no more, and what was read is printed.
#[derive(Clone)]
pub struct StopHandle(Arc<Stop>);

struct Stop {
    stopped: AtomicBool,
    /// Whether somebody asked for the stop, rather than a part of the job that has failed.
    asked: AtomicBool,
    /// The first error of the output that was not met by a write.
    output_error: OnceLock<Arc<io::Error>>,
    /// Wakes each worker, so that it looks whether it is stopped.
    wakers: Vec<Wake>,
}

impl StopHandle {
    pub(crate) fn new(wakers: Vec<Wake>) -> StopHandle {
        let (stopped, asked) = (AtomicBool::new(false), AtomicBool::new(false));
        StopHandle(Arc::new(Stop { stopped, asked, output_error: OnceLock::new(), wakers }))
    }

    /// Stops the job; returns at once. [`Job::wait`](crate::Job::wait) returns when it has ended.
    pub fn stop(&self) {
        self.0.asked.store(true, Release);
        self.halt();
    }

    /// Stops the job from inside.
    pub(crate) fn halt(&self) {
        self.0.stopped.store(true, Release);
        for waker in &self.0.wakers {
            waker();
        }
    }

    /// Stops the job because its output can take no more, as a write with this error does. It is for an
    /// output that learns of that while there is nothing to write, say from `poll`.
    ///
    /// If the job is also [stopped](Self::stop), and the output was only closed, it ends as stopped.
    pub fn output_failed(&self, error: io::Error) {
        // The first error is the cause of later ones.
        _ = self.0.output_error.set(Arc::new(error));
        self.halt();
    }

    /// Whether the job has been stopped, or has stopped itself as its output failed.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Acquire)
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.asked.load(Acquire)
    }

    pub(crate) fn output_error(&self) -> Option<io::Error> {
        let error = self.0.output_error.get()?;
        Some(io::Error::new(error.kind(), Arc::clone(error)))
    }
}

impl fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopHandle").field("is_stopped", &self.is_stopped()).finish_non_exhaustive()
    }
}
