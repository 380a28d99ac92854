//! Tests the output thread in a simulated world without threads.
//!
//! Between two of its calls, producers publish or end, and time passes. A seed determines all of it. An oracle
//! checks each call.
//!
//! `TCPCORE_OUTPUT_SEED=7 cargo test --lib output` runs one seed, `TCPCORE_OUTPUT_SEEDS=100000` runs the first
//! 100000.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::env;
use std::fmt::Debug;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::codec::Framing;
use crate::descriptor::write_waiting;
use crate::origin::Origin;
use crate::output::buffer::{Drained, WRITE_SIZE, add_max};
use crate::output::encode::{EachLine, EachRecord, Encoder, NUMBER_MAX_LEN, Plain, PlainLines};
use crate::output::pacing::POLL_INTERVAL;
use crate::output::{Io, Rings, run};
use crate::ring::{Doorbell, QueueProducer, Wait, queue_from};

/// The most calls in a world. A thread that makes more of them does not end.
const CALLS_MAX: usize = 500_000;

#[test]
fn every_seed_meets_the_contract() {
    let number = |name| env::var(name).ok().map(|text| text.parse().expect("a number"));
    let mut coverage = Coverage::default();
    if let Some(seed) = number("TCPCORE_OUTPUT_SEED") {
        run_seed(seed, &mut coverage);
        return;
    }
    for seed in 0..number("TCPCORE_OUTPUT_SEEDS").unwrap_or(500) {
        run_seed(seed, &mut coverage);
    }
    // A simulation without errors would prove little.
    for kind in KINDS {
        assert!(coverage.0[kind as usize] > 0, "none of {kind:?}");
    }
}

/// Runs the world of a seed.
fn run_seed(seed: u64, coverage: &mut Coverage) {
    let _guard = SeedOnPanic(seed);
    let mut chance = SmallRng::seed_from_u64(seed);
    match chance.random_range(0..6) {
        0 => World::<PassedNumbers>::run_to_its_end(chance, coverage),
        1 => World::<PassedLines>::run_to_its_end(chance, coverage),
        2 | 3 => World::<Lines>::run_to_its_end(chance, coverage),
        _ => World::<Numbers>::run_to_its_end(chance, coverage),
    }
}

/// The kinds of events in a world.
#[derive(Clone, Copy, Debug)]
enum Kind {
    EndedWell,
    WriteFailed,
    FlushFailed,
    ShortWrite,
    Interrupted,
    WouldBlock,
    FullBuffer,
    SmallBuffer,
    Polled,
    RungBeforeSleep,
    WokenByProducer,
    WokenSpuriously,
    Jump,
    HeldBack,
    /// A read ended within a line.
    PartOfLine,
    /// A buffer was full, but it ended within a line.
    FullWithinLine,
    /// Records were passed on instead of written.
    PassedOn,
}

const KINDS: [Kind; 17] = {
    use Kind::*;
    [
        EndedWell,
        WriteFailed,
        FlushFailed,
        ShortWrite,
        Interrupted,
        WouldBlock,
        FullBuffer,
        SmallBuffer,
        Polled,
        RungBeforeSleep,
        WokenByProducer,
        WokenSpuriously,
        Jump,
        HeldBack,
        PartOfLine,
        FullWithinLine,
        PassedOn,
    ]
};

/// The number of events of each kind.
#[derive(Debug, Default)]
struct Coverage([u64; KINDS.len()]);

/// The records of a world, and their encoder.
trait Records {
    type Record: Copy + Debug + PartialEq + Send + 'static;
    type Encoder: Encoder<Self::Record>;

    /// Whether the encoder passes its lines to [`Passed`] instead of writing them.
    const ARE_PASSED: bool;

    /// The most records of a line. The half of a ring holds them.
    fn longest_line(capacity: usize, chance: &mut SmallRng) -> usize;

    fn encoder(passed: &Passed) -> Self::Encoder;

    /// Makes the records of a line, at most `max`.
    fn line(max: usize, are_long: bool, chance: &mut SmallRng) -> Vec<Self::Record>;

    /// Adds the text of a record to that of all records before it.
    fn add_text(origin: Option<Origin>, record: Self::Record, text: &mut Vec<u8>);

    fn ends_line(record: Self::Record) -> bool;

    /// The most bytes of text that are added to a buffer which is not full yet. It has the rest of what a ring of
    /// this capacity holds, if lines have several records.
    fn text_max(capacity: usize) -> usize;
}

/// The text of the lines that an encoder has passed on.
type Passed = Arc<Mutex<Vec<u8>>>;

/// Numbers, written.
struct Numbers;

/// Whole lines, the records of which are bytes, written.
struct Lines;

/// Numbers, passed on.
struct PassedNumbers;

/// Whole lines, passed on.
struct PassedLines;

impl Records for Numbers {
    type Record = i64;
    type Encoder = Plain;

    const ARE_PASSED: bool = false;

    fn longest_line(_: usize, _: &mut SmallRng) -> usize {
        1
    }

    fn encoder(_: &Passed) -> Plain {
        Plain::default()
    }

    fn line(_: usize, are_long: bool, chance: &mut SmallRng) -> Vec<i64> {
        let shift = if are_long { 0 } else { 54 };
        vec![chance.random::<i64>() >> shift]
    }

    fn add_text(_: Option<Origin>, number: i64, text: &mut Vec<u8>) {
        writeln!(text, "{number}").unwrap();
    }

    fn ends_line(_: i64) -> bool {
        true
    }

    fn text_max(_: usize) -> usize {
        add_max::<i64>() * NUMBER_MAX_LEN
    }
}

impl Records for Lines {
    type Record = u8;
    type Encoder = PlainLines;

    const ARE_PASSED: bool = false;

    fn longest_line(capacity: usize, chance: &mut SmallRng) -> usize {
        [2, 40, 2000, 20_000][chance.random_range(0..4)].min(capacity.div_ceil(2))
    }

    fn encoder(_: &Passed) -> PlainLines {
        PlainLines::new(Framing::new(4096))
    }

    fn line(max: usize, are_long: bool, chance: &mut SmallRng) -> Vec<u8> {
        let most = if are_long { max } else { max.min(8) };
        let mut line = vec![chance.random_range(b'a'..=b'z'); chance.random_range(0..most)];
        line.push(b'\n');
        line
    }

    fn add_text(_: Option<Origin>, byte: u8, text: &mut Vec<u8>) {
        text.push(byte);
    }

    fn ends_line(byte: u8) -> bool {
        byte == b'\n'
    }

    fn text_max(capacity: usize) -> usize {
        capacity
    }
}

impl Records for PassedNumbers {
    type Record = i64;
    type Encoder = EachRecord<Box<dyn FnMut(Origin, &i64) + Send>>;

    const ARE_PASSED: bool = true;

    fn longest_line(_: usize, _: &mut SmallRng) -> usize {
        1
    }

    fn encoder(passed: &Passed) -> Self::Encoder {
        let passed = Arc::clone(passed);
        EachRecord::new(Box::new(move |origin, number| {
            Self::add_text(Some(origin), *number, &mut passed.lock().unwrap());
        }))
    }

    fn line(max: usize, are_long: bool, chance: &mut SmallRng) -> Vec<i64> {
        Numbers::line(max, are_long, chance)
    }

    fn add_text(origin: Option<Origin>, number: i64, text: &mut Vec<u8>) {
        writeln!(text, "{} {number}", of(origin)).unwrap();
    }

    fn ends_line(_: i64) -> bool {
        true
    }

    fn text_max(_: usize) -> usize {
        0
    }
}

impl Records for PassedLines {
    type Record = u8;
    type Encoder = EachLine<Box<dyn FnMut(Origin, &[u8]) + Send>>;

    const ARE_PASSED: bool = true;

    fn longest_line(capacity: usize, chance: &mut SmallRng) -> usize {
        Lines::longest_line(capacity, chance)
    }

    fn encoder(passed: &Passed) -> Self::Encoder {
        let passed = Arc::clone(passed);
        let framing = Framing::new(usize::MAX);
        EachLine::new(
            framing,
            Box::new(move |origin, line| {
                let text = &mut passed.lock().unwrap();
                for byte in [line, b"\n"].concat() {
                    Self::add_text(Some(origin), byte, text);
                }
            }),
        )
    }

    fn line(max: usize, are_long: bool, chance: &mut SmallRng) -> Vec<u8> {
        Lines::line(max, are_long, chance)
    }

    /// The first byte of a line has its origin in front of it.
    fn add_text(origin: Option<Origin>, byte: u8, text: &mut Vec<u8>) {
        if text.last().is_none_or(|&last| last == b'\n') {
            write!(text, "{} ", of(origin)).unwrap();
        }
        text.push(byte);
    }

    fn ends_line(byte: u8) -> bool {
        byte == b'\n'
    }

    fn text_max(_: usize) -> usize {
        0
    }
}

/// Words an origin, which an encoder that passes its lines on must have.
fn of(origin: Option<Origin>) -> String {
    let origin = origin.expect("the encoder needs it");
    format!("{} {} {}", origin.worker(), origin.server(), origin.time_ms())
}

/// The failure of a world's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Never,
    /// It accepts this many bytes and then fails.
    AtByte(usize),
    /// The flush of this number fails, counted from 0.
    AtFlush(usize),
}

/// A producer, and the state that the oracle expects of its ring.
struct Source<T: Copy + Send> {
    /// `None` once it has ended.
    producer: Option<QueueProducer<T, Origin>>,
    /// The number of lines that it has not staged yet.
    left: usize,
    longest_line: usize,
    /// With their origins, if the queue carries them.
    staged: Vec<Record<T>>,
    /// The records that are published and not read yet.
    unread: VecDeque<Record<T>>,
    /// Whether it waits for room until `woken` is set, as a worker does in its poll.
    is_held_back: bool,
    woken: Arc<AtomicBool>,
}

type Record<T> = (Option<Origin>, T);

struct World<'a, R: Records> {
    chance: SmallRng,
    coverage: &'a mut Coverage,
    calls: usize,
    now: Duration,

    // The parameters of this world.
    /// The probability of an event between two calls.
    liveliness: f64,
    /// The most lines that are staged at once.
    batch: usize,
    lines_are_long: bool,
    /// The largest capacity of a ring.
    capacity: usize,
    /// The longest time between two calls, except for jumps.
    tick_us: u64,
    /// The most bytes that a write accepts.
    step: usize,
    /// Whether writes may fail because they would block.
    is_nonblocking: bool,
    failure: Failure,

    sources: Vec<Source<R::Record>>,
    rings: Rings<R::Record>,
    /// The index of the source of each ring in `rings`.
    ids: Vec<usize>,

    // The calls of the thread so far.
    /// The text of all records that were read before the output failed.
    expected: Vec<u8>,
    /// The source of the last record that was read, if that ended within a line.
    unfinished: Option<usize>,
    /// The lines that the encoder has passed on since the last read.
    passed: Passed,
    /// The output has accepted `expected[..accepted]`. Text that is passed on counts as accepted and flushed.
    accepted: usize,
    /// The value of `accepted` at the last flush.
    flushed: usize,
    flushes: usize,
    /// The number of successive reads without records.
    empty_reads: usize,
    has_read_since_wait: bool,
    was_last_wait_a_pause: bool,
    has_failed: bool,
    reports: usize,
}

impl<R: Records> World<'_, R> {
    fn run_to_its_end(chance: SmallRng, coverage: &mut Coverage) {
        let mut world = World::<R>::new(chance, coverage);
        let total = world.sources.iter().map(|source| source.left as u64).sum();
        let encoder = R::encoder(&world.passed);
        let drained = run(encoder, &mut world);
        world.check_end(&drained, total);
    }

    fn new(mut chance: SmallRng, coverage: &mut Coverage) -> World<'_, R> {
        let is_large = chance.random_bool(0.03);
        let (most, capacity, bytes) =
            if is_large { (12_000, 16_384, 200_000) } else { (200, 64, 800) };
        // Larger than what is read at once, which is the same number of bytes whatever a record is.
        let capacity = capacity * size_of::<i64>() / size_of::<R::Record>();
        let bell = Doorbell::new();
        let is_tagged = R::ARE_PASSED || chance.random();
        let (sources, rings): (Vec<_>, _) = (0..chance.random_range(1..=4))
            .map(|_| {
                let woken = Arc::new(AtomicBool::new(false));
                let flag = Arc::clone(&woken);
                let wake = move || flag.store(true, Relaxed);
                let frames = is_tagged.then(|| chance.random_range(2..=8));
                let capacity = chance.random_range(1..=capacity);
                let (producer, consumer) = queue_from(capacity, frames, &bell, wake);
                let longest_line = R::longest_line(producer.capacity(), &mut chance);
                let source = Source {
                    producer: Some(producer),
                    left: chance.random_range(0..=1 + most / longest_line.isqrt()),
                    longest_line,
                    staged: Vec::new(),
                    unread: VecDeque::new(),
                    is_held_back: false,
                    woken,
                };
                (source, (consumer, Arc::default()))
            })
            .unzip();
        World {
            coverage,
            calls: 0,
            now: Duration::ZERO,
            liveliness: [0.02, 0.2, 0.95][chance.random_range(0..3)],
            batch: [1, 10, most][if is_large { 2 } else { chance.random_range(0..3) }],
            lines_are_long: chance.random(),
            capacity: capacity.next_power_of_two(),
            tick_us: [0, 2, 60, 1000][chance.random_range(0..4)],
            step: if chance.random() {
                usize::MAX
            } else {
                chance.random_range(bytes / 800..=bytes / 10)
            },
            is_nonblocking: chance.random(),
            failure: match chance.random_range(0..4) {
                0 | 1 => Failure::Never,
                2 => Failure::AtByte(chance.random_range(0..bytes)),
                _ => Failure::AtFlush(chance.random_range(0..8)),
            },
            ids: (0..sources.len()).collect(),
            sources,
            rings: Rings(rings),
            expected: Vec::new(),
            unfinished: None,
            passed: Passed::default(),
            accepted: 0,
            flushed: 0,
            flushes: 0,
            empty_reads: 0,
            has_read_since_wait: false,
            was_last_wait_a_pause: false,
            has_failed: false,
            reports: 0,
            chance,
        }
    }

    fn note(&mut self, kind: Kind) {
        self.coverage.0[kind as usize] += 1;
    }

    /// Runs the events between two calls, and the checks that apply to all calls.
    fn between_calls(&mut self) {
        self.calls += 1;
        assert!(self.calls < CALLS_MAX, "the thread does not end");
        assert_eq!(self.reports, usize::from(self.has_failed), "an error is reported immediately");
        self.pass();
        while self.chance.random_bool(self.liveliness) && self.live().next().is_some() {
            self.produce();
        }
    }

    fn pass(&mut self) {
        let mut us = self.chance.random_range(0..=self.tick_us);
        if self.chance.random_bool(0.001) {
            us = 1 << 42;
            self.note(Kind::Jump);
        }
        self.now += Duration::from_micros(us);
    }

    /// Returns the sources that have not ended.
    fn live(&self) -> impl Iterator<Item = usize> {
        (0..self.sources.len()).filter(|&id| self.sources[id].producer.is_some())
    }

    /// Runs one event of a producer, and returns whether it has rung the doorbell.
    fn produce(&mut self) -> bool {
        let live: Vec<usize> = self.live().collect();
        let id = live[self.chance.random_range(0..live.len())];
        let source = &mut self.sources[id];
        let producer = source.producer.as_mut().expect("it is live");
        if source.is_held_back {
            source.is_held_back = !source.woken.swap(false, Relaxed);
            return false;
        }
        if source.left == 0 && self.chance.random() {
            source.unread.extend(source.staged.drain(..));
            source.producer = None;
            return true;
        }
        let wanted = source.left.min(self.chance.random_range(1..=self.batch));
        let mut room = producer.room(wanted * source.longest_line);
        if wanted > 0 && room == 0 {
            let has_rung = !source.staged.is_empty();
            source.unread.extend(source.staged.drain(..));
            match producer.wait_for_room(producer.capacity().div_ceil(2)) {
                Wait::Over => {}
                Wait::Pending => {
                    source.is_held_back = true;
                    self.note(Kind::HeldBack);
                }
                Wait::Abandoned => panic!("a ring was dropped before its end"),
            }
            return has_rung;
        }
        let mut records = Vec::new();
        for _ in 0..wanted {
            let max = source.longest_line.min(room);
            if max == 0 {
                break;
            }
            let line = R::line(max, self.lines_are_long, &mut self.chance);
            room -= line.len();
            records.extend(line);
            source.left -= 1;
        }
        let time = SystemTime::UNIX_EPOCH + self.now;
        let origin = Origin::new(id, self.chance.random_range(0..3), time);
        let origin = producer.is_tagged().then_some(origin);
        if let Some(origin) = origin {
            producer.begin(origin);
        }
        producer.stage(&records);
        source.staged.extend(records.into_iter().map(|record| (origin, record)));
        let has_rung = !source.staged.is_empty() && self.chance.random_bool(0.7);
        if has_rung {
            producer.publish();
            source.unread.extend(source.staged.drain(..));
        }
        has_rung
    }

    /// Checks that all records that were read are written and flushed before a wait.
    fn check_before_wait(&mut self) {
        if !self.has_failed {
            assert_eq!(self.accepted, self.expected.len(), "a wait with unwritten text");
            assert_eq!(self.flushed, self.expected.len(), "a wait with unflushed text");
        }
    }

    fn check_write(&mut self, text: &[u8]) {
        assert!(!R::ARE_PASSED, "a write of what is passed on");
        assert!(!self.has_failed, "a write after an error");
        assert!(text.ends_with(b"\n"), "a write of nothing or of a part of a line");
        assert!(text == &self.expected[self.accepted..], "not what was read last");
        assert!(text.len() < WRITE_SIZE + R::text_max(self.capacity), "{} bytes", text.len());
        // The first write of a buffer.
        if self.flushed == self.accepted {
            if text.len() >= WRITE_SIZE {
                self.note(Kind::FullBuffer);
            } else {
                assert!(self.empty_reads >= self.rings.0.len(), "a small write under load");
                self.note(Kind::SmallBuffer);
            }
        }
    }

    /// Compares the lines that were passed on with those that were read.
    fn take_passed(&mut self) {
        let passed = std::mem::take(&mut *self.passed.lock().unwrap());
        if !passed.is_empty() {
            assert!(self.expected[self.accepted..].starts_with(&passed), "not what was read last");
            self.accepted += passed.len();
            self.flushed = self.accepted;
            self.note(Kind::PassedOn);
        }
    }

    /// Simulates one call of the system's `write`.
    fn try_write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.between_calls();
        if self.chance.random_bool(0.1) {
            self.note(Kind::Interrupted);
            return Err(ErrorKind::Interrupted.into());
        }
        if self.is_nonblocking && self.chance.random_bool(0.3) {
            self.note(Kind::WouldBlock);
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut len = text.len().min(self.step);
        if let Failure::AtByte(limit) = self.failure {
            len = len.min(limit - self.accepted);
            if len == 0 {
                self.has_failed = true;
                self.note(Kind::WriteFailed);
                return if self.chance.random() {
                    Ok(0)
                } else {
                    Err(ErrorKind::StorageFull.into())
                };
            }
        }
        if len < text.len() {
            self.note(Kind::ShortWrite);
        }
        self.accepted += len;
        Ok(len)
    }

    fn check_end(&mut self, drained: &Drained, total: u64) {
        assert_eq!(self.reports, usize::from(self.has_failed));
        for source in &self.sources {
            assert!(source.producer.is_none() && source.unread.is_empty(), "an end too early");
        }
        assert_eq!(drained.written + drained.lost, total);
        let kind = drained.error.as_ref().map(io::Error::kind);
        let sure = match kind {
            None => {
                assert!(!self.has_failed && drained.lost == 0);
                assert_eq!(self.flushed, self.expected.len());
                self.note(Kind::EndedWell);
                self.expected.len()
            }
            Some(ErrorKind::StorageFull | ErrorKind::WriteZero) => self.accepted,
            Some(ErrorKind::BrokenPipe) => self.flushed,
            Some(kind) => panic!("an error that the output never had: {kind}"),
        };
        let lines = self.expected[..sure].iter().filter(|&&byte| byte == b'\n').count();
        assert_eq!(drained.written, lines as u64);
    }
}

impl<R: Records> Io<R::Record> for World<'_, R> {
    fn read(
        &mut self,
        ring: usize,
        max: usize,
        take: impl FnOnce(Option<Origin>, &[R::Record]),
    ) -> usize {
        self.between_calls();
        let id = self.ids[ring];
        let unread = &mut self.sources[id].unread;
        let (expected, has_failed) = (&mut self.expected, self.has_failed);
        let mut unfinished = self.unfinished;
        assert!(unfinished.is_none_or(|unfinished| unfinished == id), "a line is interrupted");
        let count = self.rings.read(ring, max, |origin, records| {
            for &record in records {
                assert_eq!(unread.pop_front(), Some((origin, record)));
                if !has_failed {
                    R::add_text(origin, record, expected);
                    unfinished = (!R::ends_line(record)).then_some(id);
                }
            }
            take(origin, records);
        });
        assert!(count > 0 || unfinished.is_none(), "the rest of a line is missing");
        self.unfinished = unfinished;
        if unfinished.is_some() {
            self.note(Kind::PartOfLine);
            if self.expected.len() - self.accepted >= WRITE_SIZE {
                self.note(Kind::FullWithinLine);
            }
        }
        self.take_passed();
        self.empty_reads = if count > 0 { 0 } else { self.empty_reads + 1 };
        self.has_read_since_wait |= count > 0;
        count
    }

    fn drop_finished(&mut self) -> usize {
        self.between_calls();
        let mut is_finished = self.rings.0.iter().map(|(ring, _)| ring.is_finished());
        let sources = &self.sources;
        self.ids.retain(|&id| {
            let is_finished = is_finished.next().expect("there is an id for each ring");
            let ended = sources[id].producer.is_none() && sources[id].unread.is_empty();
            assert_eq!(is_finished, ended);
            !is_finished
        });
        drop(is_finished);
        let left = self.rings.drop_finished();
        assert_eq!(left, self.ids.len());
        left
    }

    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.check_write(text);
        let world = RefCell::new(self);
        write_waiting(
            || world.borrow_mut().try_write(text),
            || {
                world.borrow_mut().between_calls();
                Ok(())
            },
        )
    }

    fn flush(&mut self) -> io::Result<()> {
        self.between_calls();
        assert!(!R::ARE_PASSED, "a flush of what is passed on");
        assert!(!self.has_failed, "a flush after an error");
        assert_eq!(self.accepted, self.expected.len(), "a flush in the middle of a buffer");
        assert!(self.flushed < self.accepted, "a flush of nothing");
        if self.chance.random_bool(0.1) {
            return Err(ErrorKind::Interrupted.into());
        }
        self.flushes += 1;
        if self.failure == Failure::AtFlush(self.flushes - 1) {
            self.has_failed = true;
            self.note(Kind::FlushFailed);
            return Err(ErrorKind::BrokenPipe.into());
        }
        self.flushed = self.accepted;
        Ok(())
    }

    fn report_error(&mut self) {
        self.reports += 1;
        assert!(self.has_failed && self.reports == 1, "an error is reported once");
    }

    fn now(&mut self) -> Duration {
        self.between_calls();
        self.now
    }

    fn sleep(&mut self) {
        self.check_before_wait();
        self.between_calls();
        self.was_last_wait_a_pause = false;
        self.has_read_since_wait = false;
        // The doorbell's last check, after it has announced the sleep.
        if self.rings.is_ready() {
            self.note(Kind::RungBeforeSleep);
            return;
        }
        for id in &self.ids {
            let source = &self.sources[*id];
            assert!(source.unread.is_empty(), "a sleep while a record is published");
            assert!(source.producer.is_some(), "a sleep while a ring has ended");
        }
        if self.chance.random_bool(0.1) {
            self.note(Kind::WokenSpuriously);
            return;
        }
        for _ in 0..1000 {
            self.pass();
            if self.produce() {
                self.note(Kind::WokenByProducer);
                return;
            }
        }
        panic!("a sleep without end");
    }

    fn pause(&mut self, time: Duration) {
        self.check_before_wait();
        assert_eq!(time, POLL_INTERVAL);
        assert!(
            self.has_read_since_wait || !self.was_last_wait_a_pause,
            "polling continues although no records arrive"
        );
        self.note(Kind::Polled);
        self.was_last_wait_a_pause = true;
        self.has_read_since_wait = false;
        self.now += time;
        self.between_calls();
    }
}

/// Prints the seed of a world that breaks the contract.
struct SeedOnPanic(u64);

impl Drop for SeedOnPanic {
    #[expect(clippy::print_stderr, reason = "a failed test says how to repeat it")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("TCPCORE_OUTPUT_SEED={} repeats this", self.0);
        }
    }
}
