//! Writes the numbers of all rings to one output, on a thread of its own.
//!
//! The thread formats what the rings hold. It writes whole buffers while there is more, and what there
//! is as soon as no more is queued. Then it sleeps until a worker wakes it, or polls during a burst.
//!
//! What to do next is decided by `drain`, with `buffer` and `pacing` as its parts. These are pure. This
//! module carries out their steps, over [`Io`], which the tests implement with a world of their own.

mod buffer;
mod drain;
pub mod encode;
mod pacing;
#[cfg(all(feature = "cli", unix))]
pub mod stdout;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::ring::{Consumer, Doorbell};

use buffer::ADD_MAX;
pub(crate) use buffer::Drained;
use drain::{Drain, Step};
use encode::Encoder;
use pacing::POLL_INTERVAL;

/// Writes the numbers of all rings until every producer is gone.
///
/// When the output fails, `on_error` is called once. From then on numbers are only counted, so that no
/// producer waits for room that never comes.
pub(crate) fn drain<T: Copy + Send>(
    rings: Vec<Consumer<T>>,
    bell: &mut Doorbell,
    encoder: impl Encoder<T>,
    output: impl Write,
    on_error: impl FnMut(),
) -> Drained {
    let start = Instant::now();
    run(encoder, &mut Threaded { rings: Rings(rings), bell, output, on_error, start })
}

/// What the thread needs of the world.
trait Io<T> {
    /// Passes the oldest records of a ring to `take`, at most `max`, and returns how many.
    fn read(&mut self, ring: usize, max: usize, take: impl FnOnce(&[T])) -> usize;

    /// Drops the rings whose producers are gone and that are empty; returns how many are left.
    fn drop_finished(&mut self) -> usize;

    fn write(&mut self, text: &[u8]) -> io::Result<usize>;

    fn flush(&mut self) -> io::Result<()>;

    /// Tells that the output has failed.
    fn report_error(&mut self);

    /// The time since any fixed moment.
    fn now(&mut self) -> Duration;

    /// Returns when a producer publishes or ends, immediately if a ring [is ready](Rings::is_ready),
    /// or for no reason.
    fn sleep(&mut self);

    /// Returns after this time.
    fn pause(&mut self, time: Duration);
}

/// Carries out one step after the other, up to the end.
fn run<T>(encoder: impl Encoder<T>, io: &mut impl Io<T>) -> Drained {
    let mut drain = Drain::new(encoder, io.now());
    loop {
        match drain.next_step() {
            Step::Read(ring) => {
                let count = io.read(ring, ADD_MAX, |records| drain.add(records));
                drain.on_read(count);
            }
            Step::Write => {
                let result = io.write(drain.unwritten());
                drain.on_written(result);
            }
            Step::Flush => drain.on_flushed(io.flush()),
            Step::ReportError => {
                io.report_error();
                drain.on_error_reported();
            }
            Step::DropFinished => drain.on_finished_dropped(io.drop_finished()),
            Step::Wait => {
                if drain.should_poll(io.now()) {
                    io.pause(POLL_INTERVAL);
                } else {
                    io.sleep();
                }
            }
            Step::Done => return drain.into_result(),
        }
    }
}

/// The rings whose producers are not known to be gone.
struct Rings<T>(Vec<Consumer<T>>);

impl<T: Copy + Send> Rings<T> {
    fn read(&mut self, ring: usize, max: usize, take: impl FnOnce(&[T])) -> usize {
        self.0[ring].read(max, take)
    }

    fn drop_finished(&mut self) -> usize {
        self.0.retain(|ring| !ring.is_finished());
        self.0.len()
    }

    /// Whether there is a reason not to sleep.
    fn is_ready(&self) -> bool {
        self.0.iter().any(Consumer::is_ready)
    }
}

/// The world of the product: a doorbell, the clock, any output.
struct Threaded<'a, T, W, F> {
    rings: Rings<T>,
    bell: &'a mut Doorbell,
    output: W,
    on_error: F,
    start: Instant,
}

impl<T: Copy + Send, W: Write, F: FnMut()> Io<T> for Threaded<'_, T, W, F> {
    fn read(&mut self, ring: usize, max: usize, take: impl FnOnce(&[T])) -> usize {
        self.rings.read(ring, max, take)
    }

    fn drop_finished(&mut self) -> usize {
        self.rings.drop_finished()
    }

    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.output.write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    fn report_error(&mut self) {
        (self.on_error)();
    }

    fn now(&mut self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&mut self) {
        self.bell.sleep_unless(|| self.rings.is_ready());
    }

    fn pause(&mut self, time: Duration) {
        thread::sleep(time);
    }
}

/// Writes to a descriptor that may not block, by waiting until it takes something.
///
/// `wait` returns when a write would succeed or fail but not block, or for no reason.
#[cfg(any(feature = "cli", test))]
pub(crate) fn write_waiting(
    mut write: impl FnMut() -> io::Result<usize>,
    mut wait: impl FnMut() -> io::Result<()>,
) -> io::Result<usize> {
    loop {
        match write() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait()?,
            result => return result,
        }
    }
}
