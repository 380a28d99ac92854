//! Tests the ring with real threads, and against a model of two queues.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;

use proptest::prelude::*;

use super::{Consumer, Doorbell, Producer, Wait, ring, ring_from};

/// Has padding, which is copied but never read.
type Record = (u8, u64);

fn silent_ring(capacity: usize) -> (Producer<u32>, Consumer<u32>) {
    ring(capacity, &Doorbell::new(), || {})
}

/// Returns a ring, and the number of wake-ups of its producer.
fn counting_ring(capacity: usize) -> (Producer<u32>, Consumer<u32>, Arc<AtomicU32>) {
    let wakes = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&wakes);
    let wake = move || {
        count.fetch_add(1, Relaxed);
    };
    let (producer, consumer) = ring(capacity, &Doorbell::new(), wake);
    (producer, consumer, wakes)
}

fn read_all<T: Copy + Send>(consumer: &mut Consumer<T>) -> Vec<T> {
    let mut all = Vec::new();
    while consumer.read(usize::MAX, |records| all.extend_from_slice(records)) > 0 {}
    all
}

#[test]
fn capacity_is_rounded_up_to_a_power_of_two_of_at_least_1() {
    for (requested, made) in [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (1000, 1024)] {
        let (mut producer, _consumer) = silent_ring(requested);
        assert_eq!((producer.capacity(), producer.room(made)), (made, made));
    }
}

#[test]
#[should_panic(expected = "overflows")]
fn a_capacity_above_the_largest_power_of_two_panics() {
    let _ = silent_ring(usize::MAX / 2 + 2);
}

#[test]
fn staged_records_are_invisible_until_they_are_published() {
    let (mut producer, mut consumer) = silent_ring(4);
    producer.stage(&[1, 2]);
    producer.stage(&[3]);
    assert_eq!((producer.staged(), producer.room(4)), (3, 1));
    assert!(!consumer.is_ready());
    assert!(read_all(&mut consumer).is_empty());

    producer.publish();
    assert_eq!((producer.staged(), producer.room(4)), (0, 1));
    assert!(consumer.is_ready());
    assert_eq!(read_all(&mut consumer), [1, 2, 3]);
    assert_eq!(producer.room(4), 4);
}

#[test]
fn a_ring_of_capacity_1_holds_1_record() {
    let (mut producer, mut consumer) = silent_ring(1);
    for number in 0..3 {
        assert_eq!(producer.room(1), 1);
        producer.stage(&[number]);
        assert_eq!(producer.room(1), 0);
        producer.publish();
        assert_eq!(read_all(&mut consumer), [number]);
    }
}

#[test]
fn the_head_is_loaded_only_when_the_known_room_does_not_suffice() {
    let (mut producer, mut consumer) = silent_ring(4);
    producer.stage(&[1, 2]);
    producer.publish();
    assert_eq!(read_all(&mut consumer), [1, 2]);
    assert_eq!(producer.room(2), 2);
    assert_eq!(producer.room(3), 4);
}

#[test]
fn staging_one_record_more_than_the_room_panics_and_stages_nothing() {
    let (mut producer, mut consumer) = silent_ring(2);
    producer.stage(&[1]);
    let overflow = AssertUnwindSafe(|| producer.stage(&[2, 3]));
    assert!(catch_unwind(overflow).is_err());
    producer.stage(&[4]);
    producer.publish();
    assert_eq!(read_all(&mut consumer), [1, 4]);
}

#[test]
fn a_read_ends_at_max_and_at_the_end_of_the_storage() {
    let (mut producer, mut consumer) = silent_ring(4);
    producer.stage(&[1, 2, 3]);
    producer.publish();
    assert_eq!(consumer.read(0, |_| unreachable!("max is 0")), 0);
    assert_eq!(consumer.read(2, |records| assert_eq!(records, [1, 2])), 2);
    producer.stage(&[4, 5, 6]);
    producer.publish();
    assert_eq!(consumer.read(9, |records| assert_eq!(records, [3])), 1);
    assert_eq!(consumer.read(9, |records| assert_eq!(records, [4])), 1);
    assert_eq!(consumer.read(9, |records| assert_eq!(records, [5, 6])), 2);
    assert_eq!(consumer.read(9, |_| unreachable!("the ring is empty")), 0);
}

#[test]
fn records_stay_when_the_closure_that_reads_them_panics() {
    let (mut producer, mut consumer) = silent_ring(4);
    producer.stage(&[1, 2]);
    producer.publish();
    let read = AssertUnwindSafe(|| consumer.read(1, |_| panic!("in the closure")));
    assert!(catch_unwind(read).is_err());
    assert_eq!(read_all(&mut consumer), [1, 2]);
}

#[test]
fn records_can_be_staged_from_the_slice_being_read() {
    let (mut producer, mut consumer) = silent_ring(4);
    producer.stage(&[1, 2]);
    producer.publish();
    consumer.read(2, |records| producer.stage(records));
    producer.publish();
    assert_eq!(read_all(&mut consumer), [1, 2]);
}

#[test]
fn dropping_the_producer_publishes_and_the_ring_is_finished_after_the_last_record() {
    let (mut producer, mut consumer) = silent_ring(4);
    producer.stage(&[1]);
    producer.publish();
    producer.stage(&[2]);
    assert!(!consumer.is_finished());
    drop(producer);
    assert!(consumer.is_ready() && !consumer.is_finished());
    assert_eq!(consumer.read(1, |records| assert_eq!(records, [1])), 1);
    assert!(consumer.is_ready() && !consumer.is_finished());
    assert_eq!(consumer.read(1, |records| assert_eq!(records, [2])), 1);
    assert!(consumer.is_ready() && consumer.is_finished());
}

#[test]
fn dropping_the_consumer_wakes_the_producer_whether_or_not_it_waits() {
    let (mut producer, consumer, wakes) = counting_ring(2);
    producer.stage(&[1]);
    producer.publish();
    assert!(!producer.is_abandoned());
    drop(consumer);
    assert!(producer.is_abandoned());
    assert_eq!(wakes.load(Relaxed), 1);
    assert_eq!(producer.wait_for_room(1), Wait::Abandoned);
    producer.stage(&[2]);
    producer.publish();
    assert_eq!(producer.wait_for_room(1), Wait::Abandoned);

    let (mut producer, consumer, wakes) = counting_ring(1);
    producer.stage(&[1]);
    assert_eq!(producer.wait_for_room(1), Wait::Pending);
    drop(consumer);
    assert_eq!(wakes.load(Relaxed), 1);
}

#[test]
fn a_wake_up_comes_once_when_the_last_requested_slot_is_free() {
    let (mut producer, mut consumer, wakes) = counting_ring(4);
    producer.stage(&[1, 2, 3, 4]);
    producer.publish();
    assert_eq!(producer.wait_for_room(3), Wait::Pending);
    for (read, woken) in [(1, 0), (2, 0), (3, 1), (4, 1)] {
        consumer.read(1, |records| assert_eq!(records, [read]));
        assert_eq!(wakes.load(Relaxed), woken);
    }
}

#[test]
fn a_wait_that_is_over_immediately_causes_no_wake_up() {
    let (mut producer, mut consumer, wakes) = counting_ring(4);
    producer.stage(&[1, 2]);
    assert_eq!(producer.wait_for_room(2), Wait::Over);
    assert_eq!(read_all(&mut consumer), [1, 2]);
    assert_eq!(wakes.load(Relaxed), 0);
}

#[test]
fn a_second_wait_replaces_the_first() {
    let (mut producer, mut consumer, wakes) = counting_ring(2);
    producer.stage(&[1, 2]);
    assert_eq!(producer.wait_for_room(1), Wait::Pending);
    assert_eq!(producer.wait_for_room(2), Wait::Pending);
    consumer.read(1, |_| ());
    assert_eq!(wakes.load(Relaxed), 0);
    consumer.read(1, |_| ());
    assert_eq!(wakes.load(Relaxed), 1);
}

#[test]
fn a_wait_publishes_the_staged_records() {
    let (mut producer, mut consumer, wakes) = counting_ring(2);
    producer.stage(&[1, 2]);
    assert_eq!(producer.wait_for_room(2), Wait::Pending);
    assert_eq!(producer.staged(), 0);
    assert_eq!(read_all(&mut consumer), [1, 2]);
    assert_eq!(wakes.load(Relaxed), 1);
}

#[test]
fn a_wait_for_0_slots_or_more_than_the_capacity_panics() {
    let (mut producer, _consumer) = silent_ring(2);
    for want in [0, 3] {
        assert!(catch_unwind(AssertUnwindSafe(|| producer.wait_for_room(want))).is_err());
    }
}

#[test]
fn a_second_thread_that_sleeps_on_a_doorbell_panics() {
    let mut bell = Doorbell::new();
    bell.sleep_unless(|| true);
    let other = thread::spawn(move || bell.sleep_unless(|| true));
    assert!(other.join().is_err());
}

#[test]
fn an_announced_sleep_is_withdrawn_when_a_ring_is_ready() {
    let mut bell = Doorbell::new();
    let mut announced = false;
    let shared = Arc::clone(&bell.shared);
    bell.sleep_unless(|| {
        announced = shared.sleeping.load(Relaxed);
        true
    });
    assert!(announced && !shared.sleeping.load(Relaxed));
}

/// Fails to compile if `$type` implements `$trait`, because then `name` is ambiguous.
macro_rules! assert_not_impl {
    ($type:ty, $trait:path) => {
        const _: fn() = || {
            trait Ambiguous<Marker> {
                fn name() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            impl<T: ?Sized + $trait> Ambiguous<u8> for T {}
            let _ = <$type>::name;
        };
    };
}

assert_not_impl!(Producer<u32>, Sync);
assert_not_impl!(Producer<u32>, Clone);
assert_not_impl!(Consumer<u32>, Sync);
assert_not_impl!(Consumer<u32>, Clone);
assert_not_impl!(Doorbell, Clone);

#[test]
fn the_producer_the_consumer_and_the_doorbell_can_be_sent() {
    fn assert_send<T: Send>() {}
    assert_send::<(Producer<u32>, Consumer<u32>, Doorbell)>();
}

/// Produces like a worker's poll loop: stages as much of a batch as fits, else waits for half the ring.
fn produce(producer: &mut Producer<Record>, id: u8, count: u64) {
    let half = producer.capacity().div_ceil(2);
    let mut next = 0;
    while next < count {
        let batch = (next % 7 + 1).min(count - next);
        for value in next..next + batch {
            while producer.room(1) < 1 {
                match producer.wait_for_room(half) {
                    Wait::Over => {}
                    Wait::Pending => thread::park(),
                    Wait::Abandoned => panic!("the consumer was dropped"),
                }
            }
            producer.stage(&[(id, value)]);
        }
        producer.publish();
        next += batch;
    }
}

fn consume(mut bell: Doorbell, mut consumers: Vec<Consumer<Record>>) -> [u64; 2] {
    let mut expected = [0; 2];
    while !consumers.is_empty() {
        let mut count = 0;
        for consumer in &mut consumers {
            count += consumer.read(5, |records| {
                for &(id, value) in records {
                    assert_eq!(value, expected[usize::from(id)]);
                    expected[usize::from(id)] += 1;
                }
            });
        }
        consumers.retain(|consumer| !consumer.is_finished());
        if count == 0 && !consumers.is_empty() {
            bell.sleep_unless(|| consumers.iter().any(Consumer::is_ready));
        }
    }
    expected
}

#[test]
fn two_producer_threads_pass_all_records_in_order_to_one_consumer_thread() {
    for (capacity, count) in [(1, 10_000), (2, 10_000), (8, 100_000), (64, 200_000)] {
        let count = if cfg!(miri) { 50 } else { count };
        let bell = Doorbell::new();
        let (workers, consumers): (Vec<_>, Vec<_>) = (0..2)
            .map(|id| {
                let (to_worker, from_test) = std::sync::mpsc::channel();
                let worker = thread::spawn(move || {
                    let mut producer = from_test.recv().expect("the test sends it");
                    produce(&mut producer, id, count);
                });
                let to_wake = worker.thread().clone();
                let (producer, consumer) = ring(capacity, &bell, move || to_wake.unpark());
                to_worker.send(producer).expect("the worker receives it");
                (worker, consumer)
            })
            .unzip();
        assert_eq!(consume(bell, consumers), [count; 2]);
        for worker in workers {
            worker.join().expect("the consumer stays to the end");
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Stage(usize),
    Publish,
    Read(usize),
    Wait(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..12_usize).prop_map(Op::Stage),
        Just(Op::Publish),
        (0..12_usize).prop_map(Op::Read),
        (1..9_usize).prop_map(Op::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 512 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Compares the ring with two queues. Its counts pass the end of `usize` on the way.
    #[test]
    fn a_ring_behaves_like_a_bounded_queue(
        capacity in 1..9_usize,
        until_wrap in 0..40_usize,
        ops in prop::collection::vec(op(), 1..if cfg!(miri) { 20 } else { 100 }),
    ) {
        let origin = usize::MAX - until_wrap;
        let (mut producer, mut consumer) =
            ring_from::<Record>(origin, capacity, &Doorbell::new(), || {});
        let capacity = capacity.next_power_of_two();
        let (mut staged, mut published) = (VecDeque::new(), VecDeque::new());
        let mut records = (0..).map(|value| (7, value));
        for op in ops {
            let room = capacity - staged.len() - published.len();
            match op {
                Op::Stage(len) => {
                    prop_assert_eq!(producer.room(len) >= len, room >= len);
                    let batch: Vec<_> = records.by_ref().take(len.min(room)).collect();
                    producer.stage(&batch);
                    staged.extend(batch);
                }
                Op::Publish => {
                    producer.publish();
                    published.append(&mut staged);
                }
                Op::Read(max) => {
                    let mut read = Vec::new();
                    let len = consumer.read(max, |records| read.extend_from_slice(records));
                    prop_assert_eq!(len == 0, max == 0 || published.is_empty());
                    prop_assert!(len <= max);
                    let expected: Vec<_> = published.drain(..len).collect();
                    prop_assert_eq!(read, expected);
                }
                Op::Wait(want) => {
                    let over = producer.wait_for_room(want.min(capacity)) == Wait::Over;
                    prop_assert_eq!(over, room >= want.min(capacity));
                    published.append(&mut staged);
                }
            }
            prop_assert_eq!(producer.staged(), staged.len());
            prop_assert_eq!(consumer.is_ready(), !published.is_empty());
        }
        drop(producer);
        published.append(&mut staged);
        prop_assert_eq!(read_all(&mut consumer), Vec::from(published));
        prop_assert!(consumer.is_finished());
    }
}
