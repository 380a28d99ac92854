//! Tests the output thread on real rings, with producers on other threads. `simulation` tests the rest.

// It waits for a descriptor as stdout does, which only the program needs.
#[cfg(feature = "cli")]
mod simulation;

use super::buffer::WRITE_SIZE;
use super::*;
use crate::codec::Framing;
use crate::format::Format;
use crate::output::encode::{NUMBER_MAX_LEN, Plain, TaggedLines};
use crate::ring::{QueueProducer, queue};
use std::sync::mpsc;
use std::time::SystemTime;

const DEADLINE: Duration = Duration::from_secs(60);

/// Writes the records that `feed` puts into the rings, and returns the result.
fn drain_all(
    rings: usize,
    output: impl Write,
    on_error: impl FnMut(),
    feed: impl FnOnce(Vec<QueueProducer<i64, Origin>>) + Send,
) -> Drained {
    let mut bell = Doorbell::new();
    let queues = (0..rings).map(|_| queue(1 << 16, false, &bell, || ()));
    let (producers, consumers) =
        queues.map(|(producer, consumer)| (producer, (consumer, Arc::default()))).unzip();
    thread::scope(|scope| {
        scope.spawn(move || feed(producers));
        drain(consumers, &OutputStats::default(), &mut bell, Plain::default(), output, on_error)
    })
}

fn never() {
    panic!("the output did not fail");
}

/// An output that accepts `limit` bytes, `step` at a time, and then fails.
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
fn every_number_of_a_ring_is_written_in_order() {
    let mut text = Vec::new();
    let drained = drain_all(2, &mut text, never, |producers| {
        for (first, mut producer) in [0, 1_000_000].into_iter().zip(producers) {
            producer.stage(&(first..first + 50_000).collect::<Vec<i64>>());
        }
    });
    assert_eq!((drained.written, drained.lost), (100_000, 0));
    let text = String::from_utf8(text).unwrap();
    let (high, low): (Vec<i64>, Vec<i64>) =
        text.lines().map(|line| line.parse::<i64>().unwrap()).partition(|&n| n >= 1_000_000);
    assert_eq!(low, (0..50_000).collect::<Vec<_>>());
    assert_eq!(high, (1_000_000..1_050_000).collect::<Vec<_>>());
}

#[test]
fn the_ends_of_i64_and_zero() {
    let mut text = Vec::new();
    drain_all(1, &mut text, never, |mut producers| {
        producers[0].stage(&[i64::MIN, -6, 0, 9999, 10_000, i64::MAX]);
    });
    assert_eq!(text, b"-9223372036854775808\n-6\n0\n9999\n10000\n9223372036854775807\n");
}

#[test]
fn a_number_is_written_before_the_next_one_is_published() {
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
    drain_all(1, Channel(output), never, move |mut producers| {
        // Enough for a burst, if they are fast.
        for number in (6..600).step_by(6) {
            producers[0].stage(&[number]);
            producers[0].publish();
            let text = written.recv_timeout(DEADLINE).unwrap();
            assert_eq!(text, format!("{number}\n").as_bytes());
        }
    });
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
            assert!(buf.len() < WRITE_SIZE + add_max::<i64>() * NUMBER_MAX_LEN);
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
        drain_all(rings, &mut output, never, |producers| {
            for mut producer in producers {
                producer.stage(&[i64::MIN; 60_000]);
            }
        });
        let lines = 60_000 * rings as u64;
        assert_eq!(output.lines, lines);
        // All numbers of a ring are published at once. Only the last of them may make a smaller write.
        let large = lines * NUMBER_MAX_LEN as u64 / WRITE_SIZE as u64;
        assert!(output.writes <= large + rings as u64, "{} of {rings}", output.writes);
    }
}

#[test]
fn partial_and_interrupted_writes_lose_nothing() {
    let mut output = Small::new(3, usize::MAX);
    let drained = drain_all(1, &mut output, never, |mut producers| {
        producers[0].stage(&[123_456, 7, -88]);
    });
    assert_eq!(output.text, b"123456\n7\n-88\n");
    assert_eq!(drained.written, 3);
}

#[test]
fn a_failed_output_is_reported_once_and_each_number_is_counted() {
    // The fourth byte is the line feed of the second line. Without it the line is not written.
    for (limit, written) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let mut output = Small::new(2, limit);
        let mut reports = 0;
        let (failed, may_go_on) = mpsc::channel();
        let on_error = || {
            reports += 1;
            failed.send(()).unwrap();
        };
        let drained = drain_all(1, &mut output, on_error, move |mut producers| {
            producers[0].stage(&[1, 2, 3]);
            producers[0].publish();
            may_go_on.recv_timeout(DEADLINE).unwrap();
            // More than the ring holds. After the error the thread must still empty it.
            for _ in 0..3 {
                while producers[0].room(1 << 16) < 1 << 16 {
                    thread::yield_now();
                }
                producers[0].stage(&[4; 1 << 16]);
                producers[0].publish();
            }
        });
        assert_eq!(drained.written, written, "after {limit} bytes");
        assert_eq!(drained.lost, 3 - written + (3 << 16), "after {limit} bytes");
        assert_eq!(drained.error.map(|e| e.kind()), Some(io::ErrorKind::StorageFull));
        assert_eq!(reports, 1);
    }
}

/// Writes records to an output that accepts `limit` bytes, and returns the numbers of the written and the lost lines.
fn drain_to_small<T: Copy + Send>(
    records: &[T],
    encoder: impl Encoder<T>,
    limit: usize,
) -> (u64, u64) {
    let mut bell = Doorbell::new();
    let (mut producer, consumer) = queue(64, encoder.needs_origin(), &bell, || ());
    if producer.is_tagged() {
        producer.begin(Origin::new(0, 0, SystemTime::UNIX_EPOCH));
    }
    producer.stage(records);
    drop(producer);
    let (rings, stats) = (vec![(consumer, Arc::default())], OutputStats::default());
    let drained = drain(rings, &stats, &mut bell, encoder, Small::new(2, limit), || ());
    (drained.written, drained.lost)
}

#[test]
fn lines_with_line_feeds_are_counted_as_one_each_when_the_output_fails() {
    let text = b"a\nb\0\n\n\0";
    let framing = Framing::new(4096).with_delimiter(0);
    // A line of `task` is "1> a\nb" with its end, and has eight bytes.
    for (format, len) in [(Format::Plain, 5), (Format::Task, 8), (Format::Tsv, 8)] {
        for (limit, expected) in [(0, (0, 2)), (len - 1, (0, 2)), (len, (1, 1)), (len + 3, (1, 1))]
        {
            let encoder = TaggedLines::new(format, framing, &[]);
            assert_eq!(drain_to_small(text, encoder, limit), expected, "{format}, {limit} bytes");
        }
    }
    let json = TaggedLines::new(Format::Json, framing, &[]);
    assert_eq!(drain_to_small(text, json, 60), (0, 2));
}

#[test]
fn no_more_lines_are_lost_than_were_added_if_an_encoder_writes_more_terminators() {
    struct TwoEnds;
    impl Encoder<u16> for TwoEnds {
        fn max_len(&self, records: &[u16]) -> usize {
            records.len() * 2
        }
        fn encode(&mut self, records: &[u16], to: &mut [u8]) -> usize {
            let len = self.max_len(records);
            to[..len].fill(b'\n');
            len
        }
    }
    assert_eq!(drain_to_small(&[1, 2, 3], TwoEnds, 0), (0, 3));
}

#[test]
fn the_output_is_flushed_when_no_more_is_queued() {
    struct Flushes(u64);
    impl Write for Flushes {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            self.0 += 1;
            Ok(())
        }
    }
    let mut output = Flushes(0);
    drain_all(1, &mut output, never, |mut producers| producers[0].stage(&[6]));
    assert_eq!(output.0, 1);
}

#[test]
fn a_failed_flush_loses_all_records_since_the_last_one() {
    struct Unflushed(Vec<u8>);
    impl Write for Unflushed {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    let mut output = Unflushed(Vec::new());
    let drained = drain_all(1, &mut output, || (), |mut producers| producers[0].stage(&[6, 12]));
    assert_eq!(output.0, b"6\n12\n");
    assert_eq!((drained.written, drained.lost), (0, 2));
    assert_eq!(drained.error.map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
}

#[test]
fn the_clock_advances_and_a_pause_takes_its_time() {
    let start = Instant::now();
    let mut bell = Doorbell::new();
    let (output, on_error, rings) = (io::sink(), || (), Rings::<i64>(Vec::new()));
    let (stats, bell) = (&OutputStats::default(), &mut bell);
    let mut io = Threaded { rings, stats, bell, output, on_error, start };
    io.pause(Duration::from_millis(2));
    let elapsed = io.now();
    assert!(elapsed >= Duration::from_millis(2) && elapsed <= start.elapsed(), "{elapsed:?}");
}

#[test]
#[should_panic = "took more than it was given"]
fn an_output_that_returns_more_bytes_than_it_was_given_panics() {
    struct Liar;
    impl Write for Liar {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            Ok(buf.len() + 1)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    drain_all(1, Liar, never, |mut producers| producers[0].stage(&[6]));
}
