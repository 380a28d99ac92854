//! Checks the ring with the model checker loom.
//!
//! Run it with `RUSTFLAGS="--cfg loom" cargo test --release --lib ring::model`.

use std::ops::{Deref, DerefMut, Range};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::queue::queue_from;
use super::sync::{LEFT_OUT, Step, thread};
use super::{Consumer, Doorbell, Producer, QueueProducer, Wait, ring};

/// Drops its value, or leaks it while a failed model unwinds.
///
/// The threads of a failed model are unwound outside the execution, where the atomics of the model
/// checker panic.
struct Held<T>(Option<T>);

impl<T> Held<T> {
    fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("the value is held until the drop")
    }
}

impl<T> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("the value is held until the drop")
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::mem::forget(self.0.take());
        }
    }
}

/// Runs `execution` in every interleaving that the memory model allows with up to 3 preemptions.
///
/// The step `left_out`, if given, is not taken. A lost wake-up shows as a deadlock.
fn check(left_out: Option<Step>, execution: fn()) {
    LEFT_OUT.set(left_out);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(execution);
}

fn held_ring(
    capacity: usize,
    bell: &Doorbell,
    wake_producer: impl Fn() + Send + 'static,
) -> (Held<Producer<u32>>, Held<Consumer<u32>>) {
    let (producer, consumer) = ring(capacity, bell, wake_producer);
    (Held::new(producer), Held::new(consumer))
}

/// Returns a waker for the calling thread.
///
/// That thread must not join another one, because in loom an unpark also ends a join.
fn wake_me() -> impl Fn() + Clone + Send + 'static {
    let me = thread::current();
    move || me.unpark()
}

/// Publishes the numbers one by one, and waits when there is no room.
fn produce(producer: &mut Producer<u32>, numbers: Range<u32>) {
    for number in numbers {
        while producer.room(1) < 1 {
            match producer.wait_for_room(1) {
                Wait::Over => {}
                Wait::Pending => thread::park(),
                Wait::Abandoned => return,
            }
        }
        producer.stage(&[number]);
        producer.publish();
    }
}

/// Reads the records one by one, and sleeps when there are none, until all producers are gone.
fn consume(mut bell: Held<Doorbell>, mut consumers: Vec<Held<Consumer<u32>>>) -> Vec<u32> {
    let mut received = Vec::new();
    while !consumers.is_empty() {
        let mut count = 0;
        for consumer in &mut consumers {
            count += consumer.read(1, |records| received.extend_from_slice(records));
        }
        consumers.retain(|consumer| !consumer.is_finished());
        if count == 0 && !consumers.is_empty() {
            bell.sleep_unless(|| consumers.iter().any(|consumer| consumer.is_ready()));
        }
    }
    received
}

/// Runs both directions at once: the consumer sleeps on empty, and the producer waits on full. The
/// producer is dropped while the consumer reads or sleeps.
fn both_directions() {
    let bell = Held::new(Doorbell::new());
    let (mut producer, consumer) = held_ring(1, &bell, wake_me());
    thread::spawn(move || assert_eq!(consume(bell, vec![consumer]), [0, 1]));
    produce(&mut producer, 0..2);
}

/// Publishes the last record and closes the ring in one step, with no fence between them.
fn staged_at_the_drop() {
    let bell = Held::new(Doorbell::new());
    let (mut producer, consumer) = held_ring(2, &bell, wake_me());
    thread::spawn(move || assert_eq!(consume(bell, vec![consumer]), [0, 1]));
    produce(&mut producer, 0..1);
    producer.stage(&[1]);
}

/// Lets two producers ring the doorbell of one sleeping thread. Only one of them has to wake it.
fn two_producers_one_bell() {
    let bell = Held::new(Doorbell::new());
    let (first, consumer) = held_ring(1, &bell, || {});
    let (second, other_consumer) = held_ring(1, &bell, || {});
    for mut producer in [first, second] {
        thread::spawn(move || produce(&mut producer, 0..1));
    }
    assert_eq!(consume(bell, vec![consumer, other_consumer]), [0, 0]);
}

/// Lets the producer wait for the whole ring. One wake-up comes, and none for the first free slot.
fn one_wake_up_for_the_requested_room() {
    let bell = Held::new(Doorbell::new());
    let wakes = std::sync::Arc::new(AtomicU32::new(0));
    let (wake, count) = (wake_me(), std::sync::Arc::clone(&wakes));
    let (mut producer, consumer) = held_ring(2, &bell, move || {
        count.fetch_add(1, Relaxed);
        wake();
    });
    producer.stage(&[0, 1]);
    producer.publish();
    // Dropping the consumer causes a wake-up too, but it is dropped after the producer.
    thread::spawn(move || assert_eq!(consume(bell, vec![consumer]), [0, 1]));
    if producer.wait_for_room(2) == Wait::Pending {
        thread::park();
        assert_eq!(wakes.load(Relaxed), 1);
    }
    assert_eq!(producer.room(2), 2);
    assert!(wakes.load(Relaxed) <= 1);
}

/// Drops the consumer after one record. The producer has two more, and then waits for the end.
fn consumer_dropped() {
    let bell = Held::new(Doorbell::new());
    let (mut producer, mut consumer) = held_ring(1, &bell, wake_me());
    thread::spawn(move || consumer.read(1, |_| ()));
    produce(&mut producer, 0..3);
    while !producer.is_abandoned() {
        thread::park();
    }
}

/// Stages a record with its tag, and waits when there is no room.
fn stage_tagged(producer: &mut QueueProducer<u32, u32>, tag: u32) {
    while producer.room(1) < 1 {
        match producer.wait_for_room(1) {
            Wait::Over => {}
            Wait::Pending => thread::park(),
            Wait::Abandoned => return,
        }
    }
    producer.begin(tag);
    producer.stage(&[10 * tag]);
}

/// Passes records with two tags through two rings. The second waits for space for its frame, and is published
/// by the drop. A queue that is ready and not finished has records: the consumer never reads in vain.
fn tagged_records() {
    let mut bell = Held::new(Doorbell::new());
    let (producer, consumer) = queue_from(2, Some(2), &bell, wake_me());
    let (mut producer, mut consumer) = (Held::new(producer), Held::new(consumer));
    thread::spawn(move || {
        let mut received = Vec::new();
        loop {
            bell.sleep_unless(|| consumer.is_ready());
            if !consumer.is_ready() {
                continue;
            }
            if consumer.is_finished() {
                break;
            }
            let count = consumer.read(2, |tag, records| {
                received.extend(records.iter().map(|record| (tag, *record)));
            });
            assert_ne!(count, 0, "the queue was ready without records");
        }
        assert_eq!(received, [(Some(1), 10), (Some(2), 20)]);
    });
    stage_tagged(&mut producer, 1);
    producer.publish();
    stage_tagged(&mut producer, 2);
}

#[test]
fn tagged_records_arrive_with_their_tags() {
    check(None, tagged_records);
}

#[test]
fn all_records_and_wake_ups_arrive() {
    check(None, both_directions);
}

#[test]
fn staged_records_arrive_when_the_producer_is_dropped() {
    check(None, staged_at_the_drop);
}

#[test]
fn two_producers_wake_one_consumer_thread() {
    check(None, two_producers_one_bell);
}

#[test]
fn one_wait_for_room_causes_one_wake_up() {
    check(None, one_wake_up_for_the_requested_room);
}

#[test]
fn dropping_the_consumer_wakes_the_producer() {
    check(None, consumer_dropped);
}

/// Defines a test per step: without the step, the model must fail with the symptom that it prevents.
macro_rules! each_step_is_necessary {
    ($($name:ident: $step:ident, $execution:ident, $symptom:literal;)*) => {$(
        #[test]
        #[should_panic(expected = $symptom)]
        fn $name() {
            check(Some(Step::$step), $execution);
        }
    )*};
}

each_step_is_necessary! {
    without_tail_store: TailStore, both_directions, "Concurrent read and write";
    without_tail_load: TailLoad, both_directions, "Concurrent read and write";
    without_head_store: HeadStore, both_directions, "Concurrent read and write";
    without_head_load: HeadLoad, both_directions, "Concurrent read and write";
    without_closed_store: ClosedStore, staged_at_the_drop, "left: [0]";
    without_closed_load: ClosedLoad, both_directions, "left: [0]";
    without_ring_fence: RingFence, both_directions, "deadlock";
    without_sleep_fence: SleepFence, both_directions, "deadlock";
    without_free_fence: FreeFence, both_directions, "deadlock";
    without_wait_fence: WaitFence, both_directions, "deadlock";
    without_wait_look: WaitLook, both_directions, "deadlock";
    without_records_first: RecordsFirst, tagged_records, "ready without records";
    without_sleep_look: SleepLook, both_directions, "deadlock";
}
