//! Tests the queue, mostly without threads.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::thread;
use std::time::Instant;

use proptest::prelude::*;

use super::*;

/// A step of an output during a write.
#[derive(Clone, Debug)]
enum Step {
    /// Accepts at most this many bytes.
    Take(usize),
    Fail(ErrorKind),
    /// Pushes lines of these lengths during the write.
    Push(Vec<usize>),
}

/// A queue with both ends in one thread, and an output that follows a script.
struct Trial {
    world: Rc<World>,
    drain: Drain<Output, Report>,
}

type Report = fn(u64, Option<&io::Error>) -> String;

/// The state that the output shares with the trial.
#[derive(Default)]
struct World {
    intake: OnceCell<Intake>,
    pushed: Cell<u64>,
    /// The remaining steps. After the last one, the output accepts all bytes.
    script: RefCell<VecDeque<Step>>,
    written: RefCell<Vec<u8>>,
    writes: Cell<usize>,
}

impl World {
    /// Pushes a line of `len` bytes, or longer if its number needs more.
    fn push(&self, len: usize) {
        let index = self.pushed.replace(self.pushed.get() + 1);
        let mut text = format!("line {index} ");
        text += &"x".repeat(len.saturating_sub(text.len() + 1));
        text.push('\n');
        text.shrink_to_fit();
        self.intake.get().unwrap().push(text);
    }
}

struct Output(Rc<World>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty());
        let world = &self.0;
        world.writes.set(world.writes.get() + 1);
        loop {
            let step = world.script.borrow_mut().pop_front();
            let len = match step {
                None => bytes.len(),
                Some(Step::Take(len)) => len.min(bytes.len()),
                Some(Step::Fail(kind)) => return Err(kind.into()),
                Some(Step::Push(lens)) => {
                    lens.into_iter().for_each(|len| world.push(len));
                    continue;
                }
            };
            world.written.borrow_mut().extend_from_slice(&bytes[..len]);
            return Ok(len);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        unreachable!("stderr has nothing to flush")
    }
}

fn report(dropped: u64, error: Option<&io::Error>) -> String {
    match error {
        Some(error) => format!("dropped {dropped} {error}\n"),
        None => format!("dropped {dropped}\n"),
    }
}

impl Trial {
    fn new(capacity: u64, script: impl IntoIterator<Item = Step>) -> Trial {
        let world = Rc::new(World::default());
        let (intake, drain) = queue(capacity, Output(Rc::clone(&world)), report as Report);
        world.intake.set(intake).unwrap();
        world.script.replace(script.into_iter().collect());
        Trial { world, drain }
    }

    fn push(&self, lens: &[usize]) {
        lens.iter().for_each(|len| self.world.push(*len));
    }

    /// Drains the queue as the draining thread does, until it is empty.
    fn drain(&mut self) {
        while let Ok(entry) = self.drain.receiver.try_recv() {
            self.drain.write_queued(entry);
        }
    }

    fn written(&self) -> String {
        String::from_utf8(self.world.written.borrow().clone()).unwrap()
    }

    /// Asserts that the written text is whole lines in order, and that reports fill each gap. Returns the number
    /// of lines that are written or reported.
    fn accounted_for(&self) -> u64 {
        let text = self.written();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        let mut next = 0;
        for line in text.lines() {
            let mut words = line.split(' ');
            let kind = words.next().unwrap();
            let number: u64 = words.next().unwrap().parse().unwrap();
            match kind {
                "line" => {
                    assert_eq!(number, next, "{text}");
                    next += 1;
                }
                "dropped" => {
                    assert!(number > 0, "{text}");
                    next += number;
                }
                _ => panic!("{text}"),
            }
        }
        next
    }

    fn assert_empty(&self) {
        assert_eq!(self.drain.load.update(|load| *load), Load::default());
        let Batch { text, written, lines, dropped, .. } = &self.drain.batch;
        assert_eq!((text.len(), *written, lines.len(), *dropped), (0, 0, 0, 0));
    }
}

/// Returns the cost of lines of these lengths.
fn cost(lens: &[usize]) -> u64 {
    lens.iter().map(|len| *len as u64 + LINE_COST).sum()
}

#[test]
fn lines_are_written_in_order_and_together() {
    let mut trial = Trial::new(1000, []);
    trial.push(&[0, 20, 30]);
    trial.drain();
    assert_eq!(
        trial.written(),
        format!("line 0 \nline 1 {}\nline 2 {}\n", "x".repeat(12), "x".repeat(22))
    );
    assert_eq!(trial.world.writes.get(), 1);
    trial.assert_empty();
}

#[test]
fn a_full_queue_drops_lines_and_reports_their_number_in_their_place() {
    let mut trial = Trial::new(cost(&[10, 20]), []);
    trial.push(&[10, 20, 10, 10]);
    trial.drain();
    assert_eq!(trial.written(), format!("line 0 xx\nline 1 {}\ndropped 2\n", "x".repeat(12)));
    trial.assert_empty();
    trial.push(&[10, 20]);
    trial.drain();
    assert_eq!(trial.accounted_for(), 6);
    assert!(trial.written().ends_with("x\n"), "the count is reported once");
}

#[test]
fn one_byte_more_than_the_capacity_does_not_fit() {
    for (less, written) in [(0, 2), (1, 1)] {
        let mut trial = Trial::new(cost(&[10, 20]) - less, []);
        trial.push(&[10, 20]);
        trial.drain();
        assert_eq!(trial.written().matches("line").count(), written);
        assert_eq!(trial.accounted_for(), 2);
    }
}

#[test]
fn short_lines_are_bounded_in_number() {
    let mut trial = Trial::new(100 * (LINE_COST + 10), []);
    trial.push(&[10; 1000]);
    trial.drain();
    assert_eq!(trial.written().matches("line").count(), 100);
    assert_eq!(trial.accounted_for(), 1000);
}

#[test]
fn a_line_beyond_the_capacity_is_admitted_alone() {
    let mut trial = Trial::new(100, []);
    trial.push(&[5000, 10]);
    trial.drain();
    assert_eq!(trial.written().len(), 5000 + "dropped 1\n".len());
    trial.push(&[10, 5000]);
    trial.drain();
    assert_eq!(trial.accounted_for(), 4);
    trial.assert_empty();
}

#[test]
fn a_line_after_dropped_ones_carries_their_count() {
    // While line 0 is written, 2 is dropped. Line 3 fits, although 0 is not written yet.
    let script = [Step::Push(vec![10, 100]), Step::Take(3), Step::Push(vec![10])];
    let mut trial = Trial::new(cost(&[10, 10, 10]), script);
    trial.push(&[10]);
    trial.drain();
    assert_eq!(trial.written(), "line 0 xx\nline 1 xx\ndropped 1\nline 3 xx\n");
    trial.assert_empty();
}

#[test]
fn a_write_is_whole_lines_of_at_most_4096_bytes() {
    let mut trial = Trial::new(Load::MAX_USED, []);
    trial.push(&[WRITE_SIZE / 4; 8]);
    trial.drain();
    assert_eq!((trial.accounted_for(), trial.world.writes.get()), (8, 2));

    let mut trial = Trial::new(Load::MAX_USED, []);
    trial.push(&[1, WRITE_SIZE - 8, 9, WRITE_SIZE, WRITE_SIZE + 1, 9]);
    trial.drain();
    // The writes: 8 and 4088 bytes, 9, 4096, 4097, and 9 bytes.
    assert_eq!((trial.accounted_for(), trial.world.writes.get()), (6, 5));
}

#[test]
fn a_report_and_the_next_line_are_a_separate_write() {
    let script = [Step::Push(vec![10, 10, 3900, 50]), Step::Take(usize::MAX)];
    let mut trial = Trial::new(cost(&[10, 10, 10, 60]), script);
    trial.push(&[10]);
    trial.drain();
    assert_eq!(
        trial.written(),
        format!("line 0 xx\nline 1 xx\nline 2 xx\ndropped 1\nline 4 {}\n", "x".repeat(42))
    );
    assert_eq!(trial.world.writes.get(), 3);
}

#[test]
fn partial_and_interrupted_writes_lose_nothing() {
    let steps = [Step::Take(3), Step::Fail(ErrorKind::Interrupted), Step::Take(1)];
    let mut trial = Trial::new(1000, steps.into_iter().cycle().take(30));
    trial.push(&[10, 10, 10]);
    trial.drain();
    assert_eq!(trial.written(), "line 0 xx\nline 1 xx\nline 2 xx\n");
    trial.assert_empty();
}

#[test]
fn lines_that_an_output_refuses_are_reported_with_its_error_after_it_recovers() {
    for refusal in [Step::Fail(ErrorKind::StorageFull), Step::Take(0)] {
        let mut trial = Trial::new(1000, [refusal.clone(), refusal]);
        trial.push(&[10, 10]);
        trial.drain();
        trial.push(&[10]);
        trial.drain();
        assert_eq!((trial.written(), trial.world.writes.get()), (String::new(), 2), "no spin");
        trial.push(&[10, 10]);
        trial.drain();
        let written = trial.written();
        let (report, rest) = written.split_once('\n').unwrap();
        assert!(report.starts_with("dropped 3 ") && report.len() > 12, "{report}");
        assert_eq!(rest, "line 3 xx\nline 4 xx\n");
        trial.assert_empty();
        assert!(trial.drain.batch.error.is_none());
    }
}

#[test]
fn a_line_that_was_written_in_part_is_completed_before_the_next_one() {
    let fail = || Step::Fail(ErrorKind::StorageFull);
    // The first line and a part of the second, all of the second except its line feed, and the rest.
    let script = [Step::Take(14), fail(), Step::Take(5), fail(), fail(), Step::Take(1)];
    let mut trial = Trial::new(1000, script);
    trial.push(&[10, 10, 10]);
    trial.drain();
    assert_eq!(trial.written(), "line 0 xx\nline");
    trial.push(&[10]);
    trial.drain();
    assert_eq!(trial.written(), "line 0 xx\nline 1 xx");
    trial.push(&[10]);
    trial.drain();
    trial.push(&[10]);
    trial.drain();
    let written = trial.written();
    let rest = written.strip_prefix("line 0 xx\nline 1 xx\n").unwrap();
    assert!(rest.starts_with("dropped 3 ") && rest.ends_with("\nline 5 xx\n"), "{written}");
    assert_eq!(trial.accounted_for(), 6);
    trial.assert_empty();
}

#[test]
fn an_error_between_two_lines_leaves_no_part_of_a_line() {
    let mut trial = Trial::new(1000, [Step::Take(10), Step::Fail(ErrorKind::BrokenPipe)]);
    trial.push(&[10, 10, 10]);
    trial.drain();
    assert_eq!(trial.written(), "line 0 xx\n");
    assert!(trial.drain.batch.text.is_empty());
    trial.push(&[10]);
    trial.drain();
    assert!(trial.written().starts_with("line 0 xx\ndropped 2 "), "{}", trial.written());
    assert_eq!(trial.accounted_for(), 4);
}

#[test]
fn the_memory_of_a_long_line_is_freed() {
    let mut trial = Trial::new(Load::MAX_USED, []);
    trial.push(&[1 << 20]);
    trial.drain();
    assert!(trial.drain.batch.text.capacity() <= 2 * WRITE_SIZE);
}

#[test]
fn a_load_survives_packing_and_its_count_saturates() {
    for (used, dropped) in [
        (0, 0),
        (1, 0),
        (1, 1),
        (Load::MAX_USED, 0),
        (1, Load::MAX_DROPPED),
        (Load::MAX_USED, Load::MAX_DROPPED),
    ] {
        let load = Load { used, dropped };
        assert_eq!(Load::unpack(load.pack()), load);
    }
    let mut load = Load { used: 10, dropped: Load::MAX_DROPPED - 1 };
    for _ in 0..2 {
        assert_eq!(load.admit(1, 10), None);
        assert_eq!(load, Load { used: 10, dropped: Load::MAX_DROPPED });
    }
}

#[test]
#[should_panic(expected = "can hold the capacity")]
fn a_capacity_beyond_the_bits_of_a_load_panics() {
    Trial::new(Load::MAX_USED + 1, []);
}

fn a_step() -> impl Strategy<Value = Step> {
    let failure = prop_oneof![
        Just(ErrorKind::StorageFull),
        Just(ErrorKind::BrokenPipe),
        Just(ErrorKind::Interrupted),
    ];
    prop_oneof![
        4 => (0..60_usize).prop_map(Step::Take),
        1 => Just(Step::Take(usize::MAX)),
        2 => failure.prop_map(Step::Fail),
        2 => prop::collection::vec(1..60_usize, 0..8).prop_map(Step::Push),
    ]
}

proptest! {
    #[test]
    fn every_line_is_written_once_in_order_or_counted_once_in_its_place(
        capacity in 1..1000_u64,
        // The lines that are pushed between two drains.
        pushes in prop::collection::vec(prop::collection::vec(1..60_usize, 0..20), 0..10),
        script in prop::collection::vec(a_step(), 0..40),
    ) {
        let mut trial = Trial::new(capacity, script);
        for lens in pushes {
            trial.push(&lens);
            trial.drain();
        }
        // Finally the output accepts all bytes.
        trial.world.script.borrow_mut().clear();
        trial.push(&[1]);
        trial.drain();
        prop_assert_eq!(trial.accounted_for(), trial.world.pushed.get());
        trial.assert_empty();
    }
}

/// The longest wait of a test, which only a failing test reaches.
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn lines_of_many_threads_are_in_order_by_thread_and_each_is_written_or_counted() {
    const LINES: u64 = 20_000;
    struct Slow(Vec<u8>, mpsc::Sender<Vec<u8>>);
    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            thread::yield_now();
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    impl Drop for Slow {
        fn drop(&mut self) {
            self.1.send(mem::take(&mut self.0)).unwrap();
        }
    }
    let (sender, written) = mpsc::channel();
    let (intake, drain) = queue(10_000, Slow(Vec::new(), sender), report);
    thread::scope(|scope| {
        scope.spawn(|| drain.run());
        thread::scope(|scope| {
            for writer in 0..4 {
                let intake = &intake;
                scope
                    .spawn(move || (0..LINES).for_each(|i| intake.push(format!("{writer} {i}\n"))));
            }
        });
        assert!(intake.flush(DEADLINE));
        drop(intake);
    });
    let text = String::from_utf8(written.recv().unwrap()).unwrap();
    let mut next = [0; 4];
    let (mut lines, mut dropped) = (0, 0);
    for line in text.lines() {
        let (who, number) = line.split_once(' ').unwrap();
        let number: u64 = number.parse().unwrap();
        if who == "dropped" {
            dropped += number;
            continue;
        }
        let next: &mut u64 = &mut next[who.parse::<usize>().unwrap()];
        assert!(number >= *next, "{line} after {next}");
        *next = number + 1;
        lines += 1;
    }
    assert_eq!(lines + dropped, 4 * LINES);
}

#[test]
fn a_flush_waits_for_earlier_lines() {
    let (intake, drain) = queue(1000, Vec::new(), report);
    thread::scope(|scope| {
        intake.push("line\n".into());
        scope.spawn(|| drain.run());
        assert!(intake.flush(DEADLINE));
        assert_eq!(intake.load.update(|load| *load), Load::default());
        drop(intake);
    });
}

#[test]
fn a_flush_waits_while_lines_are_written_and_not_forever() {
    /// An output that takes a small part of the patience for each line.
    struct Slow(Duration);
    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            thread::sleep(self.0);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let patience = Duration::from_secs(1);
    // Each line is a separate write. All of them take longer than the patience.
    let line = format!("{}\n", "x".repeat(WRITE_SIZE));
    let (intake, drain) = queue(1 << 20, Slow(patience / 10), report);
    thread::scope(|scope| {
        for _ in 0..15 {
            intake.push(line.clone());
        }
        scope.spawn(|| drain.run());
        assert!(intake.flush(patience));
        for _ in 0..5 {
            intake.push(line.clone());
        }
        assert!(!intake.flush(patience / 1000), "no line is written in this time");
        drop(intake);
    });
}

#[test]
fn a_flush_ends_after_its_timeout_and_immediately_without_a_drain() {
    let (intake, drain) = queue(1000, Vec::new(), report);
    assert!(!intake.flush(Duration::from_millis(1)));
    drop(drain);
    let start = Instant::now();
    assert!(!intake.flush(DEADLINE));
    assert!(start.elapsed() < DEADLINE);
    // A push without a drain has no effect.
    intake.push("line\n".into());
}
