//! From bytes to choices, and the record of what was chosen.

use tcpcore::internals::proto::time::Duration;

/// Defines an enum with the list of its variants.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident,)+) => {
        /// A fault or an end that can occur in a world.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind { $($(#[$doc])* $name,)+ }

        impl Kind {
            /// All of them.
            pub(crate) const ALL: &[Kind] = &[$(Kind::$name,)+];
        }
    };
}

kinds! {
    // Faults, each on or off in a world.
    Refused,
    Unreachable,
    NeverAnswers,
    AcceptsAndCloses,
    ConnectedToItself,
    NoDescriptors,
    Closes,
    Resets,
    CutInMidLine,
    StallsOnHalfALine,
    EndlessLine,
    Firehose,
    Flood,
    Junk,
    /// A connection begins with many malformed lines.
    JunkOnly,
    Urgent,
    /// The stream begins with a byte order mark, whole or with a pause in it, or with a part of one.
    Mark,
    SplitMark,
    PartOfMark,
    ShortRead,
    Interrupted,
    SpuriousEvent,
    FewEvents,
    PollInterrupted,
    EarlyWake,
    ClockJump,
    SlowCall,
    Standstill,
    OutputStalls,
    NotResolved,
    NoAddress,
    SeveralAddresses,
    NoAnswer,
    LateAnswer,
    ServerAdded,
    ServerRemoved,
    // What comes of them.
    /// An event for a socket that is closed by now, or for none.
    StaleEvent,
    /// A reset that the worker sees before it sees the connection.
    LostBeforeSeen,
    /// A read that stopped at the urgent mark.
    StoppedAtTheMark,
    /// A poll that was full, and one that was the last of those that mentioned every socket.
    PollFull,
    PollsSufficed,
    /// A standstill that the worker's clock does not count, and one that it counts.
    TimeStoodStill,
    TimeWentOn,
    /// A lookup that outlasted its attempt: the next one waited for it, or found its answer.
    LookupOutlasted,
    LateAnswerUsed,
    NextAddressAfterFailure,
    NextAddressAfterDelay,
    /// Another address than the first one was connected, while the first was still being connected.
    LaterAddressWon,
    ConnectTimedOut,
    ResolveTimedOut,
    SinkFull,
    /// There was less room than the whole of an unfinished line needs.
    SinkFullForTheLine,
    BudgetUsedUp,
    /// A connection with a backlog had to wait for the next turn.
    TurnUsedUp,
    IdleLost,
    BackoffStartedOver,
    DelayAtTheCap,
    DownForLong,
    Heartbeat,
    Malformed,
    /// In a world of whole lines: a line, an empty one, and one that would be no number was passed on.
    WholeLine,
    EmptyLinePassedOn,
    JunkPassedOn,
    LineAtTheLimit,
    LineOneOverTheLimit,
    EndlessLineSkipped,
    Cut,
    /// A mark was dropped, or cut by the end of the connection.
    MarkDropped,
    MarkCut,
    /// A hint was due: at many bytes without a delimiter, or for malformed lines alone, many or all of a connection.
    HintAtManyBytes,
    HintAtManyLines,
    HintAtTheEnd,
    /// The end of a stream was kept as a line, which was a number or malformed, or was passed on whole.
    TailKept,
    TailKeptMalformed,
    TailKeptWhole,
    /// A wake-up by the clock that found nothing to do: that of a timer that was moved.
    SpareWake,
    GivenUp,
    GivenUpInAnAttempt,
    OnceEndedWell,
    OnceEndedBadly,
    OnceOnlyMalformed,
    Finished,
    /// A server was removed in each of its states: before its first attempt or between two, with a lookup
    /// under way, with sockets being connected, with bytes to be read, with a part of a line, and ended badly.
    RemovedWaiting,
    RemovedResolving,
    RemovedConnecting,
    RemovedUnread,
    RemovedInMidLine,
    RemovedAfterFailing,
    /// A server was removed before the sockets of one that was removed earlier were closed.
    RemovedWithActionsQueued,
    /// An id was removed twice.
    RemovedTwice,
    /// No server was left, and later there was one again.
    AllRemoved,
    AddedToNone,
    /// A server got the index of a removed one: while its sockets were still open, or while its name was still
    /// being looked up.
    IndexUsedAgain,
    IndexUsedWithSocketsOpen,
    IndexUsedInLookup,
    /// The answer for a removed server came; while the server with its index was itself waiting for one.
    AnswerForRemoved,
    AnswerBesideAnother,
    StoppedInTheMiddle,
    Recovered,
}

/// The number of kinds that are faults: those up to `ServerRemoved`.
const FAULTS: u32 = Kind::ServerRemoved as u32 + 1;

/// How often each kind occurred.
#[derive(Clone, Debug)]
pub(crate) struct Coverage([u64; Kind::ALL.len()]);

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage([0; Kind::ALL.len()])
    }
}

impl Coverage {
    /// How often this kind occurred.
    pub(crate) fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// Adds another world's.
    pub(crate) fn add(&mut self, other: &Coverage) {
        for (mine, others) in self.0.iter_mut().zip(other.0) {
            *mine += others;
        }
    }
}

/// The bytes still to be turned into choices.
///
/// Whatever is asked of a spent slice, the answer is the first choice.
pub(super) struct Chance<'a> {
    bytes: &'a [u8],
    /// A bit for each fault of this world; none once it is calm.
    pub(super) faults: u64,
    pub(super) coverage: Coverage,
}

impl<'a> Chance<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Chance<'a> {
        let mut chance = Chance { bytes, faults: 0, coverage: Coverage::default() };
        // Half of all faults, a quarter, or all: few at a time make the longer stories.
        let mut word = || u64::from_le_bytes(std::array::from_fn(|_| chance.byte()));
        let (a, b) = (word(), word());
        chance.faults = match chance.below(8) {
            0..4 => a & b,
            4..7 => a,
            _ => u64::MAX,
        };
        chance.faults &= (1 << FAULTS) - 1;
        chance
    }

    pub(super) fn is_spent(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Ends all faults, and all chance.
    pub(super) fn calm(&mut self) {
        self.bytes = &[];
        self.faults = 0;
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    /// A number below `bound`, which must not be 0.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        match bound {
            ..=256 => u32::from(self.byte()) % bound,
            _ => u32::from_le_bytes(std::array::from_fn(|_| self.byte())) % bound,
        }
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        self.below(u32::try_from(len).expect("worlds are small")) as usize
    }

    /// True once in `n` times, for `n` of at least 2.
    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.below(n) + 1 == n
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// A span up to `max`, small ones as likely as large ones.
    pub(super) fn span(&mut self, max: Duration) -> Duration {
        let max = max.as_millis();
        let bits = 64 - max.leading_zeros();
        let max = max >> self.below(bits + 1);
        let bytes = bits.div_ceil(8);
        let value = (0..bytes).fold(0, |value, _| value << 8 | u64::from(self.byte()));
        Duration::from_millis(if max == u64::MAX { value } else { value % (max + 1) })
    }

    /// Whether a fault that this world has is due, which it is once in `n` times.
    pub(super) fn fault(&mut self, kind: Kind, n: u32) -> bool {
        let is_due = self.faults >> kind as u32 & 1 != 0 && self.one_in(n);
        if is_due {
            self.saw(kind);
        }
        is_due
    }

    pub(super) fn saw(&mut self, kind: Kind) {
        self.coverage.0[kind as usize] += 1;
    }
}
