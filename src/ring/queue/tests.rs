use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::*;

type Queue = (QueueProducer<u32, char>, QueueConsumer<u32, char>);

fn tagged(capacity: usize, frames: usize) -> Queue {
    queue_from(capacity, Some(frames), &Doorbell::new(), || {})
}

/// Reads everything, in pieces as they come.
fn read_all(consumer: &mut QueueConsumer<u32, char>) -> Vec<(Option<char>, Vec<u32>)> {
    let mut all = Vec::new();
    while consumer.read(usize::MAX, |tag, records| all.push((tag, records.to_vec()))) > 0 {}
    all
}

#[test]
fn without_tags_it_is_a_ring() {
    let (mut producer, mut consumer) = queue::<u32, char>(4, false, &Doorbell::new(), || {});
    producer.begin('a');
    producer.stage(&[1, 2]);
    producer.publish();
    assert!(!producer.is_tagged() && consumer.is_ready());
    assert_eq!(read_all(&mut consumer), [(None, vec![1, 2])]);
    drop(producer);
    assert!(consumer.is_finished());
}

#[test]
fn records_come_with_their_tags_and_those_of_one_tag_together() {
    let (mut producer, mut consumer) = tagged(16, 8);
    for (tag, records) in [('a', &[1, 2][..]), ('a', &[3]), ('b', &[]), ('c', &[4]), ('a', &[5])] {
        producer.begin(tag);
        producer.stage(records);
    }
    assert!(!consumer.is_ready());
    producer.publish();
    let expected = [('a', vec![1, 2, 3]), ('c', vec![4]), ('a', vec![5])];
    assert_eq!(read_all(&mut consumer), expected.map(|(tag, records)| (Some(tag), records)));
    producer.stage(&[6]);
    drop(producer);
    assert!(consumer.is_ready() && !consumer.is_finished());
    assert_eq!(read_all(&mut consumer), [(Some('a'), vec![6])], "the tag is kept");
    assert!(consumer.is_finished());
}

#[test]
fn a_frame_is_read_in_parts() {
    let (mut producer, mut consumer) = tagged(8, 2);
    producer.begin('a');
    producer.stage(&[1, 2, 3]);
    drop(producer);
    assert_eq!(consumer.read(2, |_, records| assert_eq!(records, [1, 2])), 2);
    assert!(consumer.is_ready() && !consumer.is_finished());
    assert_eq!(consumer.read(0, |_, _| panic!("no records are asked for")), 0);
    assert_eq!(
        consumer.read(2, |tag, records| assert_eq!((tag, records), (Some('a'), &[3][..]))),
        1
    );
    assert!(consumer.is_finished());
}

#[test]
fn without_space_for_two_frames_there_is_no_room_and_a_wait_is_for_half_of_them() {
    let wakes = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&wakes);
    let wake = move || _ = count.fetch_add(1, Relaxed);
    let (mut producer, mut consumer) = queue_from(64, Some(4), &Doorbell::new(), wake);
    for tag in ['a', 'b', 'c'] {
        assert_eq!(producer.room(64), 64 - (u32::from(tag) - u32::from('a')) as usize);
        producer.begin(tag);
        producer.stage(&[1]);
    }
    // Two frames are staged, and the third is open: one of the two free slots is for it.
    assert_eq!(producer.room(1), 61);
    producer.begin('d');
    producer.stage(&[1]);
    assert_eq!(producer.room(1), 0);
    assert_eq!(producer.wait_for_room(32), Wait::Pending);
    let mut read = || consumer.read(1, |_, _| ());
    assert_eq!((read(), wakes.load(Relaxed)), (1, 0));
    assert_eq!((read(), wakes.load(Relaxed)), (1, 1), "half of the frames");
    assert_eq!(producer.room(62), 62);
    assert_eq!(producer.wait_for_room(32), Wait::Over);
}

#[test]
fn the_last_space_for_a_frame_is_kept_for_the_records_that_follow() {
    let (mut producer, mut consumer) = tagged(64, 2);
    producer.begin('a');
    producer.stage(&[1]);
    producer.publish_from(2);
    assert!(!consumer.is_ready(), "there are fewer");
    producer.publish_from(1);
    assert!(consumer.is_ready());
    producer.stage(&[2]);
    producer.publish_from(1);
    producer.stage(&[3]);
    producer.publish();
    let expected = [vec![1], vec![2, 3]].map(|records| (Some('a'), records));
    assert_eq!(read_all(&mut consumer), expected);
}

#[test]
#[should_panic = "without a tag"]
fn records_without_a_tag_panic() {
    tagged(4, 2).0.stage(&[1]);
}
