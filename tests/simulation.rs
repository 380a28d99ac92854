//! Worlds by seed: a worker among servers that misbehave, checked at every call.
//!
//! `TCPCORE_SIM_SEEDS=1000000` runs that many, on all cores, and says how fast;
//! `TCPCORE_SIM_SEED=7` runs one and prints its story.

mod sim;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use proptest::prelude::*;
use sim::{Coverage, Kind, Outcome};
use tcpcore::internals::proto::fleet::{Fleet, TIMERS_PER_TURN};
use tcpcore::internals::proto::policy::Policy;
use tcpcore::internals::proto::time;
use tcpcore::{Config, Server};

/// The seeds of a plain `cargo test`.
const SEEDS: u64 = 3000;

/// Runs a world, a panic in which is a failure like any other.
fn run(run: fn(&[u8]) -> Result<Outcome, sim::Violation>, bytes: &[u8]) -> Result<Outcome, String> {
    match catch_unwind(AssertUnwindSafe(|| run(bytes))) {
        Ok(result) => result.map_err(|violation| violation.to_string()),
        Err(panic) => Err(text_of(&*panic)),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("of an unknown kind"))
}

fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name} is {text:?}: {error}")))
}

/// What a batch of seeds came to.
#[derive(Default)]
struct Sum {
    coverage: Coverage,
    turns: u64,
    /// Each seed with the hash of its steps.
    hashes: BTreeMap<u64, u64>,
    /// The lowest seed that has failed, and how.
    failure: Option<(u64, String)>,
}

/// Runs the seeds below `count` on all cores.
fn run_seeds(count: u64) -> Sum {
    let next = AtomicU64::new(0);
    let has_failed = AtomicBool::new(false);
    let sum = Mutex::new(Sum::default());
    let work = || {
        let mut mine = Sum::default();
        while !has_failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                break;
            }
            match run(sim::run, &sim::entropy_of(seed)) {
                Ok(outcome) => {
                    mine.coverage.add(&outcome.coverage);
                    mine.turns += outcome.turns;
                    mine.hashes.insert(seed, outcome.hash);
                }
                Err(text) => {
                    mine.failure = Some((seed, text));
                    has_failed.store(true, Ordering::Relaxed);
                }
            }
        }
        let mut sum = sum.lock().expect("no world panics here");
        sum.coverage.add(&mine.coverage);
        sum.turns += mine.turns;
        sum.hashes.append(&mut mine.hashes);
        sum.failure = [sum.failure.take(), mine.failure].into_iter().flatten().min();
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..cores).for_each(|_| _ = scope.spawn(work)));
    sum.into_inner().expect("no world panics here")
}

/// The command that prints the story of a seed.
fn command(seed: u64) -> String {
    let release = if cfg!(debug_assertions) { "" } else { " --release" };
    format!(
        "TCPCORE_SIM_SEED={seed} cargo test{release} --test simulation every_seed -- --nocapture"
    )
}

#[test]
#[expect(clippy::print_stderr, reason = "the figures are for reading")]
fn every_seed_keeps_the_contract_and_the_default_ones_meet_every_fault_and_end() {
    if let Some(seed) = number_from_env("TCPCORE_SIM_SEED") {
        let outcome = run(sim::replay, &sim::entropy_of(seed));
        assert!(outcome.is_ok(), "seed {seed}: {}", outcome.unwrap_err());
        return;
    }
    let count = number_from_env("TCPCORE_SIM_SEEDS").unwrap_or(SEEDS);
    let start = Instant::now();
    let sum = run_seeds(count);
    if let Some((seed, text)) = sum.failure {
        panic!("seed {seed}: {text}\nreplay it with: {}", command(seed));
    }
    let elapsed = start.elapsed();
    eprintln!(
        "{count} seeds, {} turns in {elapsed:.1?}: {:.0} seeds a second",
        sum.turns,
        count as f64 / elapsed.as_secs_f64()
    );
    for kind in Kind::ALL {
        eprintln!("{:>12} {kind:?}", sum.coverage.of(*kind));
    }
    let unmet: Vec<_> = Kind::ALL.iter().filter(|kind| sum.coverage.of(**kind) == 0).collect();
    assert!(unmet.is_empty() || count < SEEDS, "these never occurred: {unmet:?}");
}

#[test]
fn a_seed_run_twice_takes_the_same_steps() {
    // All of them where they are fast.
    let count = if cfg!(debug_assertions) { 500 } else { SEEDS };
    let [once, again] = [(); 2].map(|()| run_seeds(count).hashes);
    for seed in 0..count {
        assert_eq!(once.get(&seed), again.get(&seed), "seed {seed}");
    }
}

#[test]
fn a_world_without_entropy_has_no_faults_and_recovers() {
    let outcome = run(sim::run, &[]).unwrap();
    assert_eq!(outcome.coverage.of(Kind::Recovered), 1);
}

#[test]
fn a_crowd_that_is_due_at_once_is_dialled_in_turns_within_the_bound() {
    let now = time::Instant::ZERO;
    let server: Server = "192.0.2.1:9000".parse().unwrap();
    let config = Config::builder().servers([server.clone()]).build().unwrap();
    let decoder = config.number_decoder().expect("numbers do not contain the delimiter");
    let mut fleet = Fleet::new(0, Policy::from(&config), decoder, Box::new(()), 0, now);
    for _ in 0..2 * TIMERS_PER_TURN + 1 {
        fleet.add(0, server.clone(), now);
    }
    for dialed in [TIMERS_PER_TURN, TIMERS_PER_TURN, 1] {
        assert_eq!(fleet.next_deadline(), Some(now), "there are more");
        fleet.on_time(now);
        assert_eq!(std::iter::from_fn(|| fleet.next_action()).count(), dialed);
    }
    assert_eq!(
        fleet.next_deadline(),
        Some(now + time::Duration::from_secs(10)),
        "the connect timeout"
    );
}

proptest! {
    // The bytes of a failure are printed; a file of them would mean nothing after the next change.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_keep_the_contract(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let outcome = run(sim::run, &bytes);
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
}
