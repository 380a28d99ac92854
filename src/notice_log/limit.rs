//! Bounds the lines of each kind of notice, and counts those that are not logged.
//!
//! All workers share one limit and never wait for each other: a decision is one atomic step, and so is a count.
//! The [`Intake`] of a worker decides, and the one [`Tally`] collects the counts for a [`Summary`]. Each notice is
//! either admitted or counted in one summary. Time is an argument.
//!
//! The first notices that are not logged are also sent to the tally with their servers. So a thread can sleep until
//! there is something to sum up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::mpsc::{self, Receiver, SyncSender};

use crate::address::Server;
use crate::notice_log::kind::{Kind, Reason};
use crate::proto::time::{Duration, Instant};
use crate::text::count;

/// The length of a window.
pub(super) const WINDOW: Duration = Duration::from_secs(1);

/// The most lines of one kind in a window: 100.
///
/// A reader follows about as many. A storm of one kind then writes about 11 KB a second.
const MAX_LINES: u64 = 100;

/// The most servers that a summary names.
const NAMED: usize = 3;

/// Creates a limit: the intake, which each worker has a clone of, and the tally.
pub(super) fn limit() -> (Intake, Tally) {
    let shared = Arc::new(Shared::default());
    // Each kind sends as many servers between two summaries.
    let (sender, receiver) = mpsc::sync_channel(Kind::COUNT * NAMED);
    let intake = Intake { shared: Arc::clone(&shared), sender };
    (intake, Tally { shared, receiver, named: Default::default() })
}

#[derive(Debug, Default)]
struct Shared([OfKind; Kind::COUNT]);

/// The state of one kind.
#[derive(Debug, Default)]
struct OfKind {
    /// A packed [`Window`].
    window: AtomicU64,
    /// The notices since the last summary that were not logged, by reason.
    left_out: [AtomicU64; Reason::COUNT],
    /// The number of notices not logged since the last summary. It decides which are sent; `left_out` counts them.
    sent: AtomicU64,
}

/// A notice that is not logged, and its server.
pub(super) type LeftOut = (Kind, Server);

/// A worker's end of the limit.
#[derive(Clone, Debug)]
pub(super) struct Intake {
    shared: Arc<Shared>,
    sender: SyncSender<LeftOut>,
}

impl Intake {
    /// Returns whether a notice may be logged. Counts it otherwise.
    pub(super) fn admit(&self, kind: Kind, reason: Reason, server: &Server, now: Instant) -> bool {
        let state = &self.shared.0[kind as usize];
        if admit(&state.window, now) {
            return true;
        }
        // The count comes first, so that a summary after the message includes it.
        state.left_out[reason.number()].fetch_add(1, AcqRel);
        if state.sent.fetch_add(1, AcqRel) < NAMED as u64 {
            // A full channel wakes the tally as well.
            _ = self.sender.try_send((kind, server.clone()));
        }
        false
    }
}

/// The lines of one kind that were logged since a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Window {
    start: Instant,
    /// Invariant: at most `MAX_LINES`.
    lines: u64,
}

impl Window {
    const LINES_BITS: u32 = 8;

    /// Returns the window after one more line, or `None` if there may be none.
    fn admit(self, now: Instant) -> Option<Window> {
        match self {
            Window { start, .. } if now >= start.saturating_add(WINDOW) => {
                Some(Window { start: now, lines: 1 })
            }
            Window { start, lines } if lines < MAX_LINES => {
                Some(Window { start, lines: lines + 1 })
            }
            _ => None,
        }
    }

    /// Packs the window. The start has 56 bits, which two million years reach.
    fn pack(self) -> u64 {
        self.start.as_millis() << Self::LINES_BITS | self.lines
    }

    fn unpack(packed: u64) -> Window {
        let lines = packed & ((1 << Self::LINES_BITS) - 1);
        Window { start: Instant::from_millis(packed >> Self::LINES_BITS), lines }
    }
}

const _: () = assert!(MAX_LINES < 1 << Window::LINES_BITS, "a packed window holds the lines");

/// Admits a line in a window that all workers share.
fn admit(window: &AtomicU64, now: Instant) -> bool {
    // No other memory depends on the order.
    let next = |packed| Window::unpack(packed).admit(now).map(Window::pack);
    window.fetch_update(Relaxed, Relaxed, next).is_ok()
}

/// The end of the limit that collects the counts.
#[derive(Debug)]
pub(super) struct Tally {
    shared: Arc<Shared>,
    /// Receives the first notices that are not logged. It is disconnected when all intakes are dropped.
    pub(super) receiver: Receiver<LeftOut>,
    /// The servers to name in the next summary of each kind.
    named: [Vec<Server>; Kind::COUNT],
}

impl Tally {
    /// Takes a received notice.
    pub(super) fn note(&mut self, (kind, server): LeftOut) {
        let named = &mut self.named[kind as usize];
        if named.len() < NAMED {
            named.push(server);
        }
    }

    /// Takes all counts since the last call, as a summary for each kind with a notice that was not logged.
    pub(super) fn take(&mut self) -> Vec<Summary> {
        while let Ok(left_out) = self.receiver.try_recv() {
            self.note(left_out);
        }
        let of_kind = |(kind, (state, named)): (Kind, (&OfKind, &mut Vec<Server>))| {
            // First, so that each later count is followed by a message.
            state.sent.swap(0, AcqRel);
            let counts = state.left_out.iter().map(|count| count.swap(0, AcqRel));
            let counts = Reason::all().zip(counts).collect();
            let servers = std::mem::take(named);
            let summary = Summary { kind, counts, servers };
            (summary.total() > 0).then_some(summary)
        };
        let states = self.shared.0.iter().zip(&mut self.named);
        Kind::ALL.into_iter().zip(states).filter_map(of_kind).collect()
    }
}

/// The notices of one kind that were not logged. Its `Display` is the message.
#[derive(Debug)]
pub(super) struct Summary {
    pub(super) kind: Kind,
    counts: Vec<(Reason, u64)>,
    servers: Vec<Server>,
}

impl Summary {
    pub(super) fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Lists some of the servers, with commas.
    pub(super) fn servers(&self) -> String {
        let servers: Vec<String> = self.servers.iter().map(Server::to_string).collect();
        servers.join(", ")
    }

    /// Lists the counts by reason, with commas: `1890 connection refused, 10 name not resolved`.
    pub(super) fn reasons(&self) -> String {
        let counts =
            self.counts.iter().filter(|(reason, count)| *count > 0 && *reason != Reason::None);
        let texts: Vec<String> =
            counts.map(|(reason, count)| format!("{count} {}", reason.text())).collect();
        texts.join(", ")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (noun, rest) = self.kind.noun();
        write!(f, "Not logged: {}{rest}", count(self.total(), &format!("more {noun}")))?;
        let reasons = self.reasons();
        if !reasons.is_empty() {
            write!(f, " ({reasons})")?;
        }
        if !self.servers.is_empty() {
            write!(f, ", such as {}", self.servers())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::time::{at, ms};
    use crate::stats::FailureReason;
    use proptest::prelude::*;
    use std::thread;

    fn server(port: u16) -> Server {
        format!("a:{port}").parse().unwrap()
    }

    fn refused(intake: &Intake, port: u16, now: Instant) -> bool {
        let reason = Reason::Failure(FailureReason::Refused);
        intake.admit(Kind::ConnectFailed, reason, &server(port), now)
    }

    fn messages(tally: &mut Tally) -> Vec<String> {
        tally.take().iter().map(Summary::to_string).collect()
    }

    #[test]
    fn a_hundred_lines_of_a_kind_are_admitted_within_a_second() {
        let (intake, _tally) = limit();
        assert!((0..100).all(|_| refused(&intake, 1, at(5000))));
        assert!(!refused(&intake, 1, at(5000)) && !refused(&intake, 1, at(5999)));
        assert!((0..100).all(|_| refused(&intake, 1, at(6000))));
        assert!(!refused(&intake, 1, at(6000)));
    }

    #[test]
    fn a_window_begins_with_its_first_line() {
        let (intake, _tally) = limit();
        assert!(refused(&intake, 1, at(900)) && refused(&intake, 1, at(2500)));
        assert!((0..99).all(|_| refused(&intake, 1, at(3499))));
        assert!(!refused(&intake, 1, at(3499)));
        assert!(refused(&intake, 1, at(3500)));
    }

    #[test]
    fn each_kind_has_a_limit_of_its_own() {
        let (intake, mut tally) = limit();
        for kind in Kind::ALL {
            let lines = (0..110).filter(|_| intake.admit(kind, Reason::None, &server(1), at(0)));
            assert_eq!(lines.count(), 100, "{kind:?}");
        }
        let summaries = tally.take();
        assert_eq!(summaries.iter().map(|summary| summary.kind).collect::<Vec<_>>(), Kind::ALL);
        assert!(summaries.iter().all(|summary| summary.total() == 10));
    }

    #[test]
    fn a_summary_counts_by_reason_and_names_the_first_three_servers() {
        let (intake, mut tally) = limit();
        assert!((0..100).all(|_| refused(&intake, 1, at(0))));
        assert_eq!(messages(&mut tally), [""; 0]);
        assert!(!refused(&intake, 2, at(0)));
        assert_eq!(
            messages(&mut tally),
            ["Not logged: 1 more failure to connect (1 connection refused), such as a:2"]
        );
        assert!((2..1000).all(|port| !refused(&intake, port, at(0))));
        let not_resolved = Reason::Failure(FailureReason::Resolve);
        assert!(!intake.admit(Kind::ConnectFailed, not_resolved, &server(1), at(0)));
        assert_eq!(
            messages(&mut tally),
            [
                "Not logged: 999 more failures to connect (1 name not resolved, 998 connection refused), \
              such as a:2, a:3, a:4"
            ]
        );
        assert_eq!(messages(&mut tally), [""; 0], "each is counted once");
    }

    #[test]
    fn a_summary_of_a_kind_without_reasons_has_none() {
        let (intake, mut tally) = limit();
        for _ in 0..102 {
            intake.admit(Kind::Trying, Reason::None, &server(1), at(0));
        }
        assert_eq!(messages(&mut tally), ["Not logged: 2 more attempts, such as a:1, a:1"]);
    }

    #[test]
    fn the_first_notice_after_a_summary_is_sent_again() {
        let (intake, mut tally) = limit();
        assert!((0..100).all(|_| refused(&intake, 1, at(0))));
        for _ in 0..3 {
            assert!(tally.receiver.try_recv().is_err());
            assert!((0..10).all(|_| !refused(&intake, 1, at(0))));
            let first = tally.receiver.try_recv().unwrap();
            tally.note(first);
            assert_eq!(tally.take().len(), 1);
        }
    }

    #[test]
    fn a_window_survives_packing() {
        for start in [0, 1, (1 << 56) - 1] {
            for lines in [0, 1, MAX_LINES] {
                let window = Window { start: at(start), lines };
                assert_eq!(Window::unpack(window.pack()), window);
            }
        }
    }

    /// The next event: notices after a span, or a summary.
    #[derive(Clone, Debug)]
    enum Step {
        Notices { kind: usize, reason: usize, count: u64, after_ms: u64 },
        Summary,
    }

    fn a_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..3_usize, 0..Reason::COUNT, 1..250_u64, prop_oneof![Just(0), Just(999), 0..2000_u64])
                .prop_map(|(kind, reason, count, after_ms)| Step::Notices { kind, reason, count, after_ms }),
            1 => Just(Step::Summary),
        ]
    }

    proptest! {
        #[test]
        fn each_notice_is_admitted_or_counted_once_and_no_second_has_more_than_twice_the_limit(
            steps in prop::collection::vec(a_step(), 0..60),
        ) {
            let (intake, mut tally) = limit();
            let (mut now, server) = (at(0), server(1));
            let mut expected = [[0_u64; Reason::COUNT]; 3];
            let mut found = expected;
            let mut lines: [Vec<Instant>; 3] = Default::default();
            let mut collect = |found: &mut [[u64; Reason::COUNT]; 3]| {
                for summary in tally.take() {
                    assert!((1..=NAMED).contains(&summary.servers.len()));
                    for (reason, count) in summary.counts {
                        found[summary.kind as usize][reason.number()] += count;
                    }
                }
            };
            for step in steps {
                let Step::Notices { kind, reason, count, after_ms } = step else {
                    collect(&mut found);
                    continue;
                };
                now += ms(after_ms);
                let its_reason = Reason::all().nth(reason).unwrap();
                for _ in 0..count {
                    expected[kind][reason] += 1;
                    if intake.admit(Kind::ALL[kind], its_reason, &server, now) {
                        found[kind][reason] += 1;
                        lines[kind].push(now);
                    }
                }
            }
            collect(&mut found);
            prop_assert_eq!(found, expected);
            // A second overlaps two windows at most.
            let limit = usize::try_from(2 * MAX_LINES).unwrap();
            for lines in lines {
                for ends in lines.windows(limit + 1) {
                    prop_assert!(ends[limit] - ends[0] >= WINDOW);
                }
            }
        }
    }

    #[test]
    fn notices_of_many_threads_are_admitted_or_counted_once() {
        const EACH: u64 = 20_000;
        const WORKERS: u64 = 4;
        let (intake, mut tally) = limit();
        let (mut left_out, mut admitted) = (0, 0);
        let total = |tally: &mut Tally| tally.take().iter().map(Summary::total).sum::<u64>();
        thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|_| {
                    let intake = intake.clone();
                    scope.spawn(move || {
                        let moments = (0..EACH).map(|i| at(i / 10));
                        moments.filter(|now| refused(&intake, 1, *now)).count() as u64
                    })
                })
                .collect();
            drop(intake);
            // A message follows each count that a summary has missed.
            while let Ok(first) = tally.receiver.recv() {
                tally.note(first);
                left_out += total(&mut tally);
            }
            admitted = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        });
        assert_eq!(total(&mut tally), 0, "no count is without a message");
        assert_eq!(admitted + left_out, EACH * WORKERS);
        assert!(admitted >= 2 * MAX_LINES, "{admitted}");
    }
}
