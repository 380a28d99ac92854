//! Measures the ring against rtrb and the standard library's channel: numbers from one thread to another.

use std::hint::black_box;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, fence};
use std::sync::mpsc::sync_channel;
use std::thread;

use tcpcore::internals::ring::{Doorbell, ring};

use crate::programs::Programs;
use crate::stats::{Clock, race};
use crate::table::{Report, figure};
use crate::{Options, Result};

const CAPACITY: usize = 64 * 1024;

/// Numbers that a worker publishes at once, under load.
const MOST: usize = 4096;

/// Numbers that the decoder passes on at once.
const SOME: usize = 64;

pub fn run(options: &Options, _: &Programs, report: &mut Report) -> Result<()> {
    let mut figures = Vec::new();
    for (batch, count) in [(MOST, 100_000_000), (SOME, 50_000_000), (1, 5_000_000)] {
        let count = if options.quick { count / 100 } else { count };
        let count = count / batch * batch;
        let times = race(
            Clock::Wall,
            options.rounds * 2 + 1,
            [
                &mut || through_ours(count, batch),
                &mut || through_rtrb(count, batch, || {}),
                &mut || {
                    let is_waited_for = AtomicBool::new(false);
                    through_rtrb(count, batch, || ring_bell(&is_waited_for));
                },
                &mut || through_channel(count, batch),
            ],
        );
        let [ours, rtrb, rtrb_and_bell, channel] = times.map(|time| count as f64 / time / 1e6);
        let name = if batch == 1 { "singly".to_owned() } else { format!("batches of {batch}") };
        figures.push(
            std::iter::once(name)
                .chain([ours, rtrb, rtrb_and_bell, channel, ours / rtrb_and_bell].map(figure))
                .collect(),
        );
    }
    let head = [
        "two threads, M numbers/s",
        "tcpcore::ring",
        "rtrb",
        "rtrb and bells",
        "sync_channel",
        "ratio to rtrb and bells",
    ];
    report.add_table(&head, &figures);
    Ok(())
}

/// Checks whether the other end has to be woken, which a ring without wake-ups leaves to its user. That
/// costs a fence and a load after each write and each read. `tcpcore::ring` does it by itself.
fn ring_bell(is_waited_for: &AtomicBool) {
    fence(SeqCst);
    assert!(!black_box(is_waited_for).load(Relaxed), "no thread sleeps here");
}

/// Passes numbers through `tcpcore::ring`. Neither thread sleeps.
fn through_ours(count: usize, batch: usize) {
    let bell = Doorbell::new();
    let (mut producer, mut consumer) = ring(CAPACITY, &bell, || {});
    thread::scope(|scope| {
        scope.spawn(move || {
            let numbers = [7_i64; MOST];
            for _ in 0..count / batch {
                while producer.room(batch) < batch {
                    thread::yield_now();
                }
                producer.stage(black_box(&numbers[..batch]));
                producer.publish();
            }
        });
        let mut left = count;
        while left > 0 {
            match consumer.read(4096, |numbers| {
                black_box(numbers.iter().sum::<i64>());
            }) {
                0 => thread::yield_now(),
                taken => left -= taken,
            }
        }
    });
}

/// Passes numbers through rtrb, and calls `ring_bell` after each write and each read.
fn through_rtrb(count: usize, batch: usize, ring_bell: impl Fn() + Sync) {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<i64>::new(CAPACITY);
    let ring_bell = &ring_bell;
    thread::scope(|scope| {
        scope.spawn(move || {
            let numbers = [7_i64; MOST];
            for _ in 0..count / batch {
                if batch == 1 {
                    while producer.push(black_box(numbers[0])).is_err() {
                        thread::yield_now();
                    }
                } else {
                    while producer.push_entire_slice(black_box(&numbers[..batch])).is_err() {
                        thread::yield_now();
                    }
                }
                ring_bell();
            }
        });
        let mut left = count;
        while left > 0 {
            // Single numbers are read in chunks, too, as the documentation of rtrb recommends.
            let slots = consumer.slots().min(4096);
            if slots == 0 {
                thread::yield_now();
                continue;
            }
            let chunk = consumer.read_chunk(slots).expect("the slots are filled");
            let (first, second) = chunk.as_slices();
            black_box(first.iter().chain(second).sum::<i64>());
            chunk.commit_all();
            ring_bell();
            left -= slots;
        }
    });
}

/// Passes numbers through a channel. As is usual, a batch is a vector with its own allocation.
fn through_channel(count: usize, batch: usize) {
    let (sender, receiver) = sync_channel::<Vec<i64>>(CAPACITY / batch);
    let (one_sender, one_receiver) = sync_channel::<i64>(CAPACITY);
    thread::scope(|scope| {
        scope.spawn(move || {
            let numbers = [7_i64; MOST];
            for _ in 0..count / batch {
                if batch == 1 {
                    one_sender.send(black_box(numbers[0])).expect("the receiver is there");
                } else {
                    let batch = black_box(&numbers[..batch]).to_vec();
                    sender.send(batch).expect("the receiver is there");
                }
            }
        });
        if batch == 1 {
            one_receiver.into_iter().for_each(|number| {
                black_box(number);
            });
        } else {
            receiver.into_iter().for_each(|batch| {
                black_box(batch.iter().sum::<i64>());
            });
        }
    });
}
