//! Run by: RUSTFLAGS="--cfg loom" cargo test --release --lib ring::model

use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut, Range};

use super::sync::{LEFT_OUT, thread};
use super::*;

/// Dropped as ever, but leaked when a model has failed: its threads are unwound outside of the
/// execution then, and the atomics of the model checker panic there.
struct Held<T>(ManuallyDrop<T>);

impl<T> Held<T> {
    fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: this is the only place that drops it, and it runs once.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}

/// Runs `execution` in every interleaving with up to 3 preemptions that the memory model
/// allows, without one step if given. A lost wake-up shows as a deadlock.
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

/// A waker for the thread that calls this. That thread joins none: loom lets an unpark end a
/// join too.
fn wake_me() -> impl Fn() + Send + 'static {
    let me = thread::current();
    move || me.unpark()
}

/// The worker: stages what fits, and waits when nothing does.
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

/// The printer: reads what there is one by one, and sleeps otherwise, until all producers are
/// gone.
fn consume(mut bell: Held<Doorbell>, mut consumers: Vec<Held<Consumer<u32>>>) -> Vec<u32> {
    let mut printed = Vec::new();
    while !consumers.is_empty() {
        let mut count = 0;
        for consumer in &mut consumers {
            count += consumer.read(1, |records| printed.extend_from_slice(records));
        }
        consumers.retain(|consumer| !consumer.is_finished());
        if count == 0 && !consumers.is_empty() {
            bell.sleep_unless(|| consumers.iter().any(|consumer| consumer.is_ready()));
        }
    }
    printed
}

/// Both directions at once: the printer sleeps on empty, the worker waits on full, and the
/// producer is dropped while the printer reads or sleeps.
fn both_directions() {
    let bell = Held::new(Doorbell::new());
    let (mut producer, consumer) = held_ring(1, &bell, wake_me());
    thread::spawn(move || assert_eq!(consume(bell, vec![consumer]), [0, 1]));
    produce(&mut producer, 0..2);
}

/// The last record and the end in one step, with no fence between them.
fn staged_at_the_end() {
    let bell = Held::new(Doorbell::new());
    let (mut producer, consumer) = held_ring(2, &bell, wake_me());
    thread::spawn(move || assert_eq!(consume(bell, vec![consumer]), [0, 1]));
    produce(&mut producer, 0..1);
    producer.stage(&[1]);
}

/// Two workers ring for the same sleeper, and only one of them has to wake it.
fn two_producers_one_bell() {
    let bell = Held::new(Doorbell::new());
    let (first, consumer) = held_ring(1, &bell, || {});
    let (second, other_consumer) = held_ring(1, &bell, || {});
    for mut producer in [first, second] {
        thread::spawn(move || produce(&mut producer, 0..1));
    }
    assert_eq!(consume(bell, vec![consumer, other_consumer]), [0, 0]);
}

/// The worker waits for the whole ring, and is woken once: not for the first slot already.
fn one_wake_for_the_room_asked_for() {
    use std::sync::atomic::AtomicU32;
    let bell = Held::new(Doorbell::new());
    let wakes = std::sync::Arc::new(AtomicU32::new(0));
    let (wake, count) = (wake_me(), std::sync::Arc::clone(&wakes));
    let (mut producer, consumer) = held_ring(2, &bell, move || {
        count.fetch_add(1, Relaxed);
        wake();
    });
    producer.stage(&[0, 1]);
    producer.publish();
    // The consumer's end, which would wake as well, comes after the producer's.
    thread::spawn(move || assert_eq!(consume(bell, vec![consumer]), [0, 1]));
    if producer.wait_for_room(2) == Wait::Pending {
        thread::park();
        assert_eq!(wakes.load(Relaxed), 1);
    }
    assert_eq!(producer.room(2), 2);
    assert!(wakes.load(Relaxed) <= 1);
}

/// The consumer goes after one record; the worker has two more, and then nothing to say.
fn consumer_gone() {
    let bell = Held::new(Doorbell::new());
    let (mut producer, mut consumer) = held_ring(1, &bell, wake_me());
    thread::spawn(move || consumer.read(1, |_| ()));
    produce(&mut producer, 0..3);
    while !producer.is_abandoned() {
        thread::park();
    }
}

#[test]
fn every_record_arrives_and_every_wake_up() {
    check(None, both_directions);
}

#[test]
fn what_is_staged_arrives_with_the_end() {
    check(None, staged_at_the_end);
}

#[test]
fn two_producers_wake_one_printer() {
    check(None, two_producers_one_bell);
}

#[test]
fn a_worker_is_woken_once_for_the_room_it_asked_for() {
    check(None, one_wake_for_the_room_asked_for);
}

#[test]
fn a_worker_learns_that_the_consumer_is_gone() {
    check(None, consumer_gone);
}

/// The model without one step has to fail, in the way that step prevents.
macro_rules! each_step_is_needed {
    ($($name:ident: $step:ident, $execution:ident, $symptom:literal;)*) => {$(
        #[test]
        #[should_panic(expected = $symptom)]
        fn $name() {
            check(Some(Step::$step), $execution);
        }
    )*};
}

each_step_is_needed! {
    without_tail_store: TailStore, both_directions, "Concurrent read and write";
    without_tail_load: TailLoad, both_directions, "Concurrent read and write";
    without_head_store: HeadStore, both_directions, "Concurrent read and write";
    without_head_load: HeadLoad, both_directions, "Concurrent read and write";
    without_closed_store: ClosedStore, staged_at_the_end, "left: [0]";
    without_closed_load: ClosedLoad, both_directions, "left: [0]";
    without_ring_fence: RingFence, both_directions, "deadlock";
    without_sleep_fence: SleepFence, both_directions, "deadlock";
    without_free_fence: FreeFence, both_directions, "deadlock";
    without_wait_fence: WaitFence, both_directions, "deadlock";
    without_wait_look: WaitLook, both_directions, "deadlock";
    without_sleep_look: SleepLook, both_directions, "deadlock";
}
