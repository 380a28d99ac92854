//! Stops a job from any thread.

use std::fmt;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, OnceLock};

/// Wakes one worker, from any thread.
pub(crate) type Wake = Box<dyn Fn() + Send + Sync>;

/// Stops a [`Job`](crate::Job) from any thread.
///
/// A stopped job reads no more from its servers and prints all records that it has read. All clones of a
/// handle stop the same job.
#[derive(Clone)]
pub struct StopHandle(Arc<Stop>);

struct Stop {
    stopped: AtomicBool,
    /// Whether [`StopHandle::stop`] was called. A job also stops when a part of it fails.
    asked: AtomicBool,
    /// The first error of the output that [`StopHandle::output_failed`] has reported.
    output_error: OnceLock<Arc<io::Error>>,
    /// Wake all workers, which then check `stopped`.
    wakers: Vec<Wake>,
}

impl StopHandle {
    pub(crate) fn new(wakers: Vec<Wake>) -> StopHandle {
        let (stopped, asked) = (AtomicBool::new(false), AtomicBool::new(false));
        StopHandle(Arc::new(Stop { stopped, asked, output_error: OnceLock::new(), wakers }))
    }

    /// Stops the job without waiting for its end. [`Job::wait`](crate::Job::wait) waits for the end.
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

    /// Stops the job because its output has failed with this error.
    ///
    /// It has the effect of a failed write. An output calls it that detects the failure while there is
    /// nothing to write, for example by `poll`. Only the first error counts, as it causes later ones.
    ///
    /// An error of the kind [`io::ErrorKind::BrokenPipe`] means that the reader has closed the output. If the
    /// job is then also [stopped](Self::stop), it ends as [stopped](crate::ExitReason::Stopped).
    pub fn output_failed(&self, error: io::Error) {
        // The first error is the cause of later ones.
        _ = self.0.output_error.set(Arc::new(error));
        self.halt();
    }

    /// Returns whether the job was stopped, or has stopped because its output failed.
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
