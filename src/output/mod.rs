//! Writes the records of all rings to one output, on the output thread.
//!
//! The thread encodes records into a buffer. It writes the buffer when it is full, and as soon as no more
//! records are queued. Then it sleeps until a worker rings the doorbell, or polls during a burst.
//!
//! `drain` decides the next step, with `buffer` and `pacing` as its parts. All three are pure. This module
//! carries out the steps over [`Io`], which the tests implement as a simulated world.

mod buffer;
mod drain;
pub mod encode;
mod pacing;
#[cfg(all(feature = "cli", unix))]
pub mod stdout;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::origin::Origin;
use crate::ring::{Doorbell, QueueConsumer};
use crate::stats::{OutputStats, WorkerStats};

pub(crate) use buffer::Drained;
use buffer::add_max;
use drain::{Drain, Step};
use encode::Encoder;
use pacing::POLL_INTERVAL;

/// Writes the records of all rings until the last producer is dropped.
///
/// If the output fails, it calls `on_error` once. It then reads further records only to count them, so that no
/// producer waits for room forever.
pub(crate) fn drain<T: Copy + Send>(
    rings: Vec<Ring<T>>,
    stats: &OutputStats,
    bell: &mut Doorbell,
    encoder: impl Encoder<T>,
    output: impl Write,
    on_error: impl FnMut(),
) -> Drained {
    let start = Instant::now();
    run(encoder, &mut Threaded { rings: Rings(rings), stats, bell, output, on_error, start })
}

/// The operations of the system that the thread needs.
trait Io<T> {
    /// Passes the oldest records of a ring to `take`, at most `max`, with their origin if the ring has it. Returns
    /// their number.
    fn read(&mut self, ring: usize, max: usize, take: impl FnOnce(Option<Origin>, &[T])) -> usize;

    /// Drops the empty rings whose producers are dropped. Returns the number of the remaining rings.
    fn drop_finished(&mut self) -> usize;

    fn write(&mut self, text: &[u8]) -> io::Result<usize>;

    fn flush(&mut self) -> io::Result<()>;

    /// Takes the number of records written so far.
    fn note_written(&mut self, records: u64) {
        _ = records;
    }

    /// Reports that the output has failed.
    fn report_error(&mut self);

    /// Returns the time since a fixed moment.
    fn now(&mut self) -> Duration;

    /// Waits until a producer publishes or ends. Does not wait if a ring [is ready](Rings::is_ready), and may
    /// return earlier.
    fn sleep(&mut self);

    /// Waits for this time.
    fn pause(&mut self, time: Duration);
}

/// Carries out the steps of a [`Drain`] up to the end.
fn run<T>(encoder: impl Encoder<T>, io: &mut impl Io<T>) -> Drained {
    let mut drain = Drain::new(encoder, io.now());
    loop {
        match drain.next_step() {
            Step::Read(ring) => {
                let count =
                    io.read(ring, add_max::<T>(), |origin, records| drain.add(origin, records));
                drain.on_read(count);
            }
            Step::Write => {
                let result = io.write(drain.unwritten());
                drain.on_written(result);
            }
            Step::Flush => {
                drain.on_flushed(io.flush());
                io.note_written(drain.written());
            }
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

/// The rings that are not finished yet.
struct Rings<T>(Vec<Ring<T>>);

/// The consuming end of a worker's queue, and the figures of that worker.
pub(crate) type Ring<T> = (QueueConsumer<T, Origin>, Arc<WorkerStats>);

impl<T: Copy + Send> Rings<T> {
    fn read(&mut self, ring: usize, max: usize, take: impl FnOnce(Option<Origin>, &[T])) -> usize {
        let (ring, stats) = &mut self.0[ring];
        let count = ring.read(max, take);
        stats.taken(count);
        count
    }

    fn drop_finished(&mut self) -> usize {
        self.0.retain(|(ring, _)| !ring.is_finished());
        self.0.len()
    }

    /// Returns whether a ring has records or is finished, so that the thread must not sleep.
    fn is_ready(&self) -> bool {
        self.0.iter().any(|(ring, _)| ring.is_ready())
    }
}

/// The operations of the real system: rings, a doorbell, an output and the clock.
struct Threaded<'a, T, W, F> {
    rings: Rings<T>,
    stats: &'a OutputStats,
    bell: &'a mut Doorbell,
    output: W,
    on_error: F,
    start: Instant,
}

impl<T: Copy + Send, W: Write, F: FnMut()> Io<T> for Threaded<'_, T, W, F> {
    fn read(&mut self, ring: usize, max: usize, take: impl FnOnce(Option<Origin>, &[T])) -> usize {
        self.rings.read(ring, max, take)
    }

    fn drop_finished(&mut self) -> usize {
        self.rings.drop_finished()
    }

    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let start = Instant::now();
        let result = self.output.write(text);
        self.stats.add_blocked(start.elapsed());
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        let start = Instant::now();
        let result = self.output.flush();
        self.stats.add_blocked(start.elapsed());
        result
    }

    fn note_written(&mut self, records: u64) {
        self.stats.set_written(records);
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
