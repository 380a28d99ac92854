//! From N rings to one output.
//!
//! The printer formats what the rings hold and writes it out in large pieces while there is more, and
//! at once when there is not. Then it sleeps until it is woken, or in a rush for a moment only. Every
//! write begins and ends between two lines.

use std::io::{self, Write};
use std::mem;
use std::thread;
use std::time::{Duration, Instant};

use crate::format::{Formatter, LINE_MAX, ROOM};
use crate::ring::{Consumer, Doorbell};

/// Text is written out when there is so much of it, in bytes.
const WRITE_SIZE: usize = 64 * 1024;

/// The numbers that are taken from a ring at once, so that the rings take turns.
const READ_MAX: usize = 2048;

/// As many numbers that each find the printer asleep are a rush, if they come within [`RUSH_SPAN`].
const RUSH: u32 = 16;

/// See [`RUSH`]: 50 µs for each, of which its wake-up alone takes a good part.
const RUSH_SPAN: Duration = Duration::from_micros(800);

/// How long the printer naps in a rush before it looks again: nobody has to end a nap, and what has come
/// meanwhile is printed together.
const NAP: Duration = Duration::from_micros(100);

/// What became of the numbers.
#[derive(Debug)]
pub(crate) struct Printed {
    /// The numbers whose whole lines the output took.
    pub(crate) written: u64,
    /// The numbers that it did not take.
    pub(crate) lost: u64,
    /// Why it took no more, if it did not take all.
    pub(crate) error: Option<io::Error>,
}

/// Prints the numbers of all rings until every producer is gone.
///
/// When the output fails, `on_error` is called once, and from then on numbers are only counted, so
/// that no producer waits for room that never comes.
pub(crate) fn print(
    mut rings: Vec<Consumer<i64>>,
    bell: &mut Doorbell,
    output: impl Write,
    on_error: impl FnOnce(),
) -> Printed {
    let mut page = Page::new(output, on_error);
    let mut pace = Pace::new(Instant::now());
    let mut has_printed = false;
    loop {
        let mut taken = 0;
        for ring in &mut rings {
            taken += ring.read(READ_MAX, |numbers| page.add(numbers));
            if page.len >= WRITE_SIZE {
                page.write_out();
            }
        }
        if taken > 0 {
            has_printed = true;
            continue;
        }
        page.write_out();
        rings.retain(|ring| !ring.is_finished());
        if rings.is_empty() {
            break;
        }
        match pace.rest(mem::take(&mut has_printed), Instant::now()) {
            Rest::Nap => thread::sleep(NAP),
            Rest::Sleep => bell.sleep_unless(|| rings.iter().any(Consumer::is_ready)),
        }
    }
    Printed { written: page.written, lost: page.lost, error: page.error }
}

/// How to wait for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Until a worker ends it.
    Sleep,
    /// For a moment that ends by itself.
    Nap,
}

/// How fast numbers come in. A rush begins when [`RUSH`] sleeps have ended within [`RUSH_SPAN`], and ends
/// with the first nap in which nothing came.
struct Pace {
    is_rush: bool,
    /// The sleeps since `counted_from`.
    sleeps: u32,
    counted_from: Instant,
}

impl Pace {
    fn new(now: Instant) -> Pace {
        Pace { is_rush: false, sleeps: 0, counted_from: now }
    }

    /// How to wait, now that the rings are empty. `has_printed`: they were not, after the last rest.
    fn rest(&mut self, has_printed: bool, now: Instant) -> Rest {
        if self.is_rush && !has_printed {
            *self = Pace::new(now);
        }
        if self.sleeps == RUSH {
            let is_rush = now - self.counted_from < RUSH_SPAN;
            *self = Pace { is_rush, ..Pace::new(now) };
        }
        if self.is_rush {
            return Rest::Nap;
        }
        self.sleeps += 1;
        Rest::Sleep
    }
}

/// Lines on their way to the output.
struct Page<W, F> {
    output: W,
    /// Called, and gone, at the first error.
    on_error: Option<F>,
    formatter: Formatter,
    /// In its first `len` bytes, whole lines, `lines` of them. Written out at `WRITE_SIZE`, so that a
    /// read more always fits.
    text: Box<[u8]>,
    len: usize,
    lines: u64,
    written: u64,
    lost: u64,
    error: Option<io::Error>,
}

impl<W: Write, F: FnOnce()> Page<W, F> {
    fn new(output: W, on_error: F) -> Page<W, F> {
        Page {
            output,
            on_error: Some(on_error),
            formatter: Formatter::default(),
            text: vec![0; WRITE_SIZE + READ_MAX * LINE_MAX + ROOM].into(),
            len: 0,
            lines: 0,
            written: 0,
            lost: 0,
            error: None,
        }
    }

    fn add(&mut self, numbers: &[i64]) {
        let count = numbers.len() as u64;
        if self.error.is_some() {
            self.lost += count;
            return;
        }
        for &number in numbers {
            self.len += self.formatter.write(number, &mut self.text[self.len..]);
        }
        self.lines += count;
    }

    /// Writes out what there is.
    fn write_out(&mut self) {
        if self.len == 0 {
            return;
        }
        let text = &self.text[..self.len];
        let (taken, result) = write_counting(&mut self.output, text);
        if let Err(error) = result {
            // A line of which the output took only a part is lost, too.
            let unwritten = memchr::memchr_iter(b'\n', &text[taken..]).count() as u64;
            self.lost += unwritten;
            self.lines -= unwritten;
            self.error = Some(error);
            if let Some(on_error) = self.on_error.take() {
                on_error();
            }
        }
        self.written += self.lines;
        self.lines = 0;
        self.len = 0;
    }
}

/// Writes all of `text` and flushes; says how many bytes were taken before an error.
fn write_counting(output: &mut impl Write, text: &[u8]) -> (usize, io::Result<()>) {
    let mut taken = 0;
    while taken < text.len() {
        match output.write(&text[taken..]) {
            Ok(0) => return (taken, Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => taken += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (taken, Err(error)),
        }
    }
    (taken, output.flush())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Producer, ring};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// Prints what `feed` puts into the rings, and returns what became of it.
    fn print_all(
        rings: usize,
        output: impl Write,
        on_error: impl FnOnce(),
        feed: impl FnOnce(Vec<Producer<i64>>) + Send,
    ) -> Printed {
        let mut bell = Doorbell::new();
        let (producers, consumers) = (0..rings).map(|_| ring(1 << 16, &bell, || ())).unzip();
        thread::scope(|scope| {
            scope.spawn(move || feed(producers));
            print(consumers, &mut bell, output, on_error)
        })
    }

    fn never() {
        panic!("the output did not fail");
    }

    /// Takes `limit` bytes, `step` at a time, and then fails.
    struct Small {
        text: Vec<u8>,
        step: usize,
        limit: usize,
        interrupted: bool,
    }

    impl Small {
        fn new(step: usize, limit: usize) -> Small {
            Small { text: Vec::new(), step, limit, interrupted: false }
        }
    }

    impl Write for Small {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.interrupted = !self.interrupted;
            if self.interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let n = buf.len().min(self.step).min(self.limit - self.text.len());
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.text.extend_from_slice(&buf[..n]);
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_number_of_a_ring_is_printed_in_order() {
        let mut text = Vec::new();
        let printed = print_all(2, &mut text, never, |producers| {
            for (first, mut producer) in [0, 1_000_000].into_iter().zip(producers) {
                producer.stage(&(first..first + 50_000).collect::<Vec<i64>>());
            }
        });
        assert_eq!((printed.written, printed.lost), (100_000, 0));
        let text = String::from_utf8(text).unwrap();
        let (high, low): (Vec<i64>, Vec<i64>) =
            text.lines().map(|line| line.parse::<i64>().unwrap()).partition(|&n| n >= 1_000_000);
        assert_eq!(low, (0..50_000).collect::<Vec<_>>());
        assert_eq!(high, (1_000_000..1_050_000).collect::<Vec<_>>());
    }

    #[test]
    fn the_ends_of_i64_and_zero() {
        let mut text = Vec::new();
        print_all(1, &mut text, never, |mut producers| {
            producers[0].stage(&[i64::MIN, -6, 0, 9999, 10_000, i64::MAX]);
        });
        assert_eq!(text, b"-9223372036854775808\n-6\n0\n9999\n10000\n9223372036854775807\n");
    }

    #[test]
    fn a_number_is_out_before_the_next_one_comes() {
        struct Channel(mpsc::Sender<Vec<u8>>);
        impl Write for Channel {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.0.send(buf.to_vec()).unwrap();
                Ok(buf.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (output, written) = mpsc::channel();
        print_all(1, Channel(output), never, move |mut producers| {
            // Enough for a rush, if they are fast.
            for number in (6..600).step_by(6) {
                producers[0].stage(&[number]);
                producers[0].publish();
                let text = written.recv_timeout(DEADLINE).unwrap();
                assert_eq!(text, format!("{number}\n").as_bytes());
            }
        });
    }

    #[test]
    fn a_rush_begins_with_many_short_sleeps_and_ends_with_a_nap_for_nothing() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut rest_after = |pause, has_printed| {
            now += pause;
            pace.rest(has_printed, now)
        };
        let most = RUSH_SPAN / RUSH - Duration::from_nanos(1);
        for _ in 0..3 {
            for _ in 0..2 * RUSH {
                assert_eq!(rest_after(RUSH_SPAN, true), Rest::Sleep);
            }
            let short = (0..).find(|_| rest_after(most, true) == Rest::Nap).unwrap();
            assert!((RUSH - 1..2 * RUSH).contains(&short), "after {short} short sleeps");
            for pause in [most, NAP, 100 * NAP] {
                assert_eq!(rest_after(pause, true), Rest::Nap);
            }
            assert_eq!(rest_after(NAP, false), Rest::Sleep);
        }
    }

    #[test]
    fn sleeps_of_the_whole_span_are_no_rush() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..3 * RUSH {
            now += RUSH_SPAN / RUSH;
            assert_eq!(pace.rest(true, now), Rest::Sleep);
        }
    }

    #[test]
    fn every_write_is_of_whole_lines_and_bounded() {
        struct Whole {
            lines: u64,
            writes: u64,
        }
        impl Write for Whole {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                assert_eq!(buf.last(), Some(&b'\n'));
                assert!(buf.len() < WRITE_SIZE + READ_MAX * LINE_MAX);
                self.lines += memchr::memchr_iter(b'\n', buf).count() as u64;
                self.writes += 1;
                Ok(buf.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for rings in [1, 3] {
            let mut output = Whole { lines: 0, writes: 0 };
            print_all(rings, &mut output, never, |producers| {
                for mut producer in producers {
                    producer.stage(&[i64::MIN; 60_000]);
                }
            });
            let lines = 60_000 * rings as u64;
            assert_eq!(output.lines, lines);
            // A ring gives its numbers all at once, and only the last of them may make a smaller write.
            let large = lines * LINE_MAX as u64 / WRITE_SIZE as u64;
            assert!(output.writes <= large + rings as u64, "{} of {rings}", output.writes);
        }
    }

    #[test]
    fn partial_and_interrupted_writes_lose_nothing() {
        let mut output = Small::new(3, usize::MAX);
        let printed = print_all(1, &mut output, never, |mut producers| {
            producers[0].stage(&[123_456, 7, -88]);
        });
        assert_eq!(output.text, b"123456\n7\n-88\n");
        assert_eq!(printed.written, 3);
    }

    #[test]
    fn a_failed_output_is_told_once_and_every_number_is_accounted_for() {
        // The fourth byte is the newline of the second line; without it the line is not written.
        for (limit, written) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
            let mut output = Small::new(2, limit);
            let mut told = 0;
            let (failed, may_go_on) = mpsc::channel();
            let on_error = || {
                told += 1;
                failed.send(()).unwrap();
            };
            let printed = print_all(1, &mut output, on_error, move |mut producers| {
                producers[0].stage(&[1, 2, 3]);
                producers[0].publish();
                may_go_on.recv_timeout(DEADLINE).unwrap();
                // More than the ring holds: after the error it still has to be emptied.
                for _ in 0..3 {
                    while producers[0].room(1 << 16) < 1 << 16 {
                        thread::yield_now();
                    }
                    producers[0].stage(&[4; 1 << 16]);
                    producers[0].publish();
                }
            });
            assert_eq!(printed.written, written, "after {limit} bytes");
            assert_eq!(printed.lost, 3 - written + (3 << 16), "after {limit} bytes");
            assert_eq!(printed.error.map(|e| e.kind()), Some(io::ErrorKind::StorageFull));
            assert_eq!(told, 1);
        }
    }
}
