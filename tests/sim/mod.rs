//! One worker's world in one thread: a worker, whole turns of which run over an [`Io`] of the
//! simulation's own, with servers that misbehave, and an oracle that knows what the worker must do.
//!
//! [`Io`]: tcpcore::internals::proto::worker::Io
//!
//! All chance comes from a finite slice of bytes, so a seed, proptest (which shrinks the bytes) and
//! libFuzzer drive the same [`run`]. When the bytes are used up, every choice is the first and
//! harmless one: the faults stop, and the world checks that everything recovers and ends.
//!
//! A crate includes this module as `sim` in its root.
//!
//! | file | its one job |
//! |---|---|
//! | `chance.rs` | bytes -> choices, and which faults and ends have occurred |
//! | `codec.rs` | the two decoders, and what each must make of a line |
//! | `net.rs` | sockets as the kernel shows them, and what servers send |
//! | `noted.rs` | the notices of the worker, compared with its counters |
//! | `oracle.rs` | what the worker must do next, and what each server's state is, by the contract |
//! | `world.rs` | the system that the worker sees: clock, poll, sockets, resolver, output |

mod chance;
mod codec;
mod net;
mod noted;
mod oracle;
mod world;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use tcpcore::internals::proto::time::Instant;

pub(crate) use chance::{Coverage, Kind};

/// What a world came to.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Two runs on the same bytes have the same.
    pub(crate) hash: u64,
    /// How often each fault and each end occurred.
    pub(crate) coverage: Coverage,
    /// The turns of the loop.
    pub(crate) turns: u64,
}

/// The worker did what it must not, or failed to do what it must.
#[derive(Clone, Debug)]
pub(crate) struct Violation(pub(crate) String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns with a violation unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err($crate::sim::Violation(format!($($text)+)));
        }
    };
}
pub(crate) use ensure;

/// Lives through the world that these bytes make.
pub(crate) fn run(entropy: &[u8]) -> Result<Outcome, Violation> {
    world::run(entropy, &mut Trace::new(false))
}

/// Does the same, and prints each step as it happens, so that a panic does not lose the story.
pub(crate) fn replay(entropy: &[u8]) -> Result<Outcome, Violation> {
    world::run(entropy, &mut Trace::new(true))
}

/// The bytes of a seed: some tens, for short stories, to some thousand.
pub(crate) fn entropy_of(seed: u64) -> Vec<u8> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let longest = 1 << rng.random_range(6..=11);
    let mut bytes = vec![0; rng.random_range(32..=longest)];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// One step, for the hash and for the replay of a seed.
#[derive(Debug, Hash)]
enum Step {
    World { servers: usize, faults: u64 },
    Turn { now: Instant, time: Instant },
    Added { server: usize, index: u32, generation: u32 },
    Removed { server: usize },
    Polled { until: Option<Instant>, now: Instant, events: usize, polled: &'static str },
    Stood { until: Instant },
    Sent { socket: usize, bytes: usize },
    Event { socket: usize, read_on: bool },
    Handshake { socket: usize, result: &'static str },
    Answered { server: usize, addresses: Option<usize> },
    Read { socket: usize, bytes: usize },
    ReadFailed { socket: usize, error: String },
    Resolve { server: usize },
    Connect { socket: usize, address: std::net::SocketAddr, is_open: bool },
    Close { socket: usize },
    Printed { records: usize },
    Calm { until: Instant },
    Stop,
}

/// The steps so far.
struct Trace {
    hasher: DefaultHasher,
    is_shown: bool,
}

impl Trace {
    fn new(is_shown: bool) -> Trace {
        Trace { hasher: DefaultHasher::new(), is_shown }
    }

    fn step(&mut self, step: Step) {
        if self.is_shown {
            tell(&step);
        }
        step.hash(&mut self.hasher);
    }

    fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}

#[expect(clippy::print_stderr, reason = "a replay is for reading")]
fn tell(step: &Step) {
    eprintln!("{step:?}");
}
