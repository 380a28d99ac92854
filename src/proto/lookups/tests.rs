use super::*;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The end of a lookup: after a time in milliseconds, or never.
#[derive(Clone, Copy, Debug)]
enum Kind {
    After(u64),
    Never,
}

/// Returns the end of a lookup by its name and the moment of its start.
type KindAt = Box<dyn Fn(&str, u64) -> Kind>;

/// Acts as the owner: carries out the orders in virtual time, and checks each.
struct Bench {
    lookups: Lookups<usize>,
    now_ms: u64,
    /// The name that each thread looks up, by thread; `None` if the thread is idle.
    threads: BTreeMap<usize, Option<String>>,
    /// The most threads at one time.
    most: usize,
    /// The moments at which the lookups return, each with its thread.
    returns: BTreeSet<(u64, usize)>,
    kind: KindAt,
    /// The names of the lookups under way.
    looked_up: HashSet<String>,
    /// The number of threads above which the system refuses to start more.
    limit: usize,
    /// The moment of the last refusal.
    refused_ms: Option<u64>,
    /// The moments at which the lookups started, each with its name.
    started: Vec<(u64, String)>,
    /// The moments of the answers, each with its waiter and whether it is the error of a refused thread.
    answers: Vec<(u64, usize, bool)>,
    /// The number of requests so far.
    asked: usize,
}

impl Bench {
    fn new(kind: impl Fn(&str, u64) -> Kind + 'static) -> Bench {
        Bench {
            lookups: Lookups::new(MOST),
            now_ms: 0,
            threads: BTreeMap::new(),
            most: 0,
            returns: BTreeSet::new(),
            kind: Box::new(kind),
            looked_up: HashSet::new(),
            limit: usize::MAX,
            refused_ms: None,
            started: Vec::new(),
            answers: Vec::new(),
            asked: 0,
        }
    }

    /// Requests a name. Returns the number of the waiter, which comes with the answer.
    fn ask(&mut self, name: impl Into<String>) -> usize {
        let waiter = self.asked;
        self.asked += 1;
        self.lookups.ask(name.into().into(), waiter);
        self.carry_out_orders();
        waiter
    }

    fn ask_all(&mut self, names: impl IntoIterator<Item = impl Into<String>>) {
        names.into_iter().for_each(|name| _ = self.ask(name));
    }

    fn carry_out_orders(&mut self) {
        while let Some(order) = self.lookups.next_order(self.now_ms) {
            match order {
                Order::Start { thread, name } if self.threads.len() >= self.limit => {
                    assert!(!self.threads.contains_key(&thread), "{thread} exists: {name}");
                    self.refused_ms = Some(self.now_ms);
                    let waiters = self.lookups.refused(thread, self.now_ms);
                    assert!(waiters.is_empty() || self.threads.is_empty());
                    self.answers.extend(waiters.into_iter().map(|w| (self.now_ms, w, true)));
                }
                Order::Start { thread, name } => {
                    assert_eq!(self.threads.insert(thread, None), None, "{thread} exists");
                    self.look_up(thread, name);
                }
                Order::LookUp { thread, name } => self.look_up(thread, name),
                Order::End { thread } => {
                    assert_eq!(self.threads.remove(&thread), Some(None), "{thread} is busy");
                }
            }
        }
        assert_eq!(self.lookups.threads(), self.threads.len());
        assert_eq!(self.lookups.running.iter().sum::<usize>(), self.busy());
        assert_eq!(self.lookups.idle.len(), self.threads.len() - self.busy());
        self.most = self.most.max(self.threads.len());
        assert!(self.most <= self.lookups.bounds[0]);
        if let Some(deadline_ms) = self.lookups.next_deadline() {
            assert!(deadline_ms > self.now_ms, "a deadline in the past makes a busy loop");
        }
    }

    fn look_up(&mut self, thread: usize, name: Box<str>) {
        let name = String::from(name);
        assert!(self.looked_up.insert(name.clone()), "{name} is looked up twice at once");
        if let Kind::After(ms) = (self.kind)(&name, self.now_ms) {
            self.returns.insert((self.now_ms + ms, thread));
        }
        self.started.push((self.now_ms, name.clone()));
        let slot = self.threads.get_mut(&thread).expect("the thread is there");
        assert_eq!(slot.replace(name), None, "{thread} is busy");
    }

    /// Advances to the next moment at which anything happens, if there is one by `until_ms`.
    fn step(&mut self, until_ms: u64) -> bool {
        let returns = self.returns.first().map(|&(at_ms, _)| at_ms);
        let next = returns.into_iter().chain(self.lookups.next_deadline()).min();
        let Some(next_ms) = next.filter(|&next_ms| next_ms <= until_ms) else { return false };
        self.now_ms = next_ms;
        if returns == Some(next_ms) {
            let (_, thread) = self.returns.pop_first().expect("it is the first");
            let name = self.threads.get_mut(&thread).and_then(Option::take);
            self.looked_up.remove(&name.expect("the thread is busy"));
            let waiters = self.lookups.found(thread, self.now_ms);
            assert!(!waiters.is_empty(), "each lookup has a waiter");
            self.answers.extend(waiters.into_iter().map(|w| (self.now_ms, w, false)));
        }
        self.carry_out_orders();
        true
    }

    fn run_until(&mut self, until_ms: u64) {
        while self.step(until_ms) {}
        self.now_ms = until_ms;
    }

    /// Runs until nothing more happens.
    fn run_out(&mut self) {
        while self.step(u64::MAX) {}
        assert_eq!(self.lookups.next_deadline(), None);
    }

    /// Returns the moment at which the lookup of a name last started.
    fn started_ms(&self, name: &str) -> Option<u64> {
        self.started.iter().rfind(|(_, other)| other == name).map(|&(at_ms, _)| at_ms)
    }

    /// Returns the number of lookups under way.
    fn busy(&self) -> usize {
        self.looked_up.len()
    }
}

/// Returns the end of a lookup by the prefix of its name.
///
/// `good...` returns after 1 ms, `far...` after 150 ms, `late...` after 3 s and `never...` not at all.
/// `hung...` returns after 10 s, as with glibc.
fn by_prefix(name: &str, _: u64) -> Kind {
    match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "good" => Kind::After(1),
        "far" => Kind::After(150),
        "late" => Kind::After(3000),
        "hung" => Kind::After(10_000),
        _ => Kind::Never,
    }
}

fn numbered(prefix: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |i| format!("{prefix}{i}"))
}

#[test]
fn requests_during_a_lookup_share_its_answer_and_the_next_request_starts_another() {
    let mut bench = Bench::new(by_prefix);
    bench.ask_all(["good"; 3]);
    bench.run_until(1);
    assert_eq!(bench.answers, [(1, 0, false), (1, 1, false), (1, 2, false)]);
    assert_eq!(bench.started.len(), 1);
    bench.ask("good");
    assert_eq!(bench.started.len(), 2);
    assert_eq!(bench.threads.len(), 1, "the thread is used again");
}

#[test]
fn four_threads_serve_a_burst_of_prompt_names() {
    let mut bench = Bench::new(by_prefix);
    bench.ask_all(numbered("good", 2000));
    bench.run_until(500);
    assert_eq!(bench.answers.len(), 2000);
    assert_eq!(bench.threads.len(), FEW);
}

#[test]
fn at_most_64_threads_serve_names_of_a_far_name_server() {
    let mut bench = Bench::new(by_prefix);
    bench.ask_all(numbered("far", 2000));
    bench.run_until(10_000);
    assert_eq!(bench.answers.len(), 2000);
    assert!((FEW + 1..=MANY).contains(&bench.threads.len()), "{}", bench.threads.len());
    assert!(bench.answers[1999].0 < 6000, "{:?}", bench.answers[1999]);
}

#[test]
fn lookups_that_keep_all_processors_busy_get_at_most_8_threads() {
    // The lookups run one after the other, for 6 ms each, on any number of threads.
    let free_ms = std::cell::Cell::new(0);
    let mut bench = Bench::new(move |_, now_ms| {
        free_ms.set(now_ms.max(free_ms.get()) + 6);
        Kind::After(free_ms.get() - now_ms)
    });
    bench.ask_all(numbered("name", 10_000));
    bench.run_until(60_000);
    assert_eq!(bench.answers.len(), 10_000);
    assert!(bench.most <= 2 * FEW, "{}", bench.most);
}

#[test]
fn names_that_hang_do_not_count_toward_the_64() {
    // One in four hangs. The others return too often for the number of all lookups to double.
    let kind = |name: &str, _: u64| {
        let number: usize = name.parse().unwrap();
        if number.is_multiple_of(4) { Kind::Never } else { Kind::After(250) }
    };
    let mut bench = Bench::new(kind);
    bench.ask_all((0..1000).map(|number| number.to_string()));
    bench.run_until(9000);
    assert_eq!(bench.answers.len(), 750);
    assert!(bench.most <= 2 * MANY + 250, "{}", bench.most);
}

#[test]
fn lookups_double_each_step_while_they_hang() {
    let mut bench = Bench::new(by_prefix);
    bench.ask_all(numbered("never", 3000));
    for (step, threads) in [4, 8, 16, 32, 64, 128, 256, 512, 900, 900].into_iter().enumerate() {
        bench.run_until(step as u64 * STEP_MS + STEP_MS - 1);
        assert_eq!(bench.threads.len(), threads, "after {step} steps");
    }
    assert_eq!(bench.lookups.next_deadline(), None, "nothing is due");
}

#[test]
fn at_most_one_thread_starts_for_each_name() {
    let mut bench = Bench::new(by_prefix);
    bench.ask_all(numbered("never", 5));
    bench.run_until(10_000);
    assert_eq!(bench.threads.len(), 5);
    assert_eq!(bench.lookups.next_deadline(), None);
}

#[test]
fn new_names_behind_300_that_hang_start_within_a_second() {
    for prefix in ["hung", "never"] {
        let mut bench = Bench::new(by_prefix);
        bench.ask_all(numbered(prefix, 300));
        bench.ask_all(numbered("good", 5));
        bench.run_until(1000);
        assert_eq!(bench.answers.len(), 5, "behind {prefix}");
        assert!(bench.threads.len() <= 305);
    }
}

#[test]
fn a_prompt_name_starts_immediately_despite_3000_that_hung_last_time() {
    let mut bench = Bench::new(by_prefix);
    bench.ask_all(numbered("hung", 3000));
    bench.ask("good");
    bench.run_until(60_000);
    assert_eq!(bench.answers.len(), 3001);
    bench.ask_all(numbered("hung", 3000));
    bench.run_until(61_000);
    assert_eq!(
        bench.busy(),
        bounds(MOST)[Lane::Slow as usize],
        "slow names use half of the threads"
    );
    bench.ask("good");
    assert_eq!(bench.started_ms("good"), Some(61_000));
    // New names use the threads up to the reserve of the prompt lane.
    let bounds = bounds(MOST);
    bench.ask_all(numbered("never", bounds[1] - bounds[2]));
    bench.run_until(63_000);
    assert_eq!(bench.busy(), bounds[Lane::New as usize]);
    bench.ask("good");
    assert_eq!(bench.started_ms("good"), Some(63_000));
}

#[test]
fn the_lanes_have_reserves_with_16_lookups_and_with_1000() {
    let bounds_of = |most| Lookups::<()>::new(most).bounds;
    assert_eq!([0, 15, 16].map(bounds_of), [[16, 12, 8]; 3]);
    assert_eq!([49, 50].map(bounds_of), [[49, 45, 24], [50, 45, 25]]);
    assert_eq!([1000, 1001, usize::MAX].map(bounds_of), [[1000, 900, 500]; 3]);
    let mut bench = Bench::new(by_prefix);
    bench.lookups = Lookups::new(20);
    bench.ask_all(["good1", "good2"]);
    bench.run_until(1000);
    bench.ask_all(numbered("never", 300));
    bench.run_until(60_000);
    assert_eq!(bench.busy(), 16);
    bench.ask_all(["good1", "good2"]);
    assert_eq!(bench.busy(), 18, "they use the reserve");
}

#[test]
fn prompt_names_that_hang_later_use_up_the_reserve_of_their_lane() {
    // In the first minute all names are prompt. Later no lookup returns.
    let mut bench = Bench::new(|_, _| Kind::After(1));
    bench.ask_all(numbered("name", 2000));
    bench.run_until(60_000);
    bench.kind = Box::new(|_, _| Kind::Never);
    bench.ask_all(numbered("name", 2000));
    bench.run_until(120_000);
    assert_eq!(bench.busy(), MOST);
    assert_eq!(bench.lookups.next_deadline(), None);
}

#[test]
fn prompt_names_start_before_new_ones_and_new_ones_before_slow_ones() {
    let mut bench = Bench::new(by_prefix);
    bench.ask_all(["good1", "late1"]);
    bench.run_until(5000);
    bench.ask_all(numbered("never", 2));
    bench.limit = 0;
    bench.ask_all(["late1", "far", "good1"]);
    // Two threads hang, and the system refuses more.
    assert_eq!(bench.busy(), 2);
    bench.limit = usize::MAX;
    bench.run_until(5000 + REFUSED_MS);
    let names: Vec<_> = bench.started[4..].iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["good1", "far", "late1"]);
}

#[test]
fn a_lookup_of_999_ms_makes_a_slow_name_prompt_and_one_of_1000_ms_does_not() {
    let mut bench = Bench::new(|_, _| Kind::After(SLOW_MS));
    bench.ask("name");
    bench.run_until(SLOW_MS);
    assert_eq!(bench.lookups.history.lane("name"), Lane::Slow);
    bench.kind = Box::new(|_, _| Kind::After(SLOW_MS - 1));
    bench.ask("name");
    bench.run_until(2 * SLOW_MS);
    assert_eq!(bench.lookups.history.lane("name"), Lane::Prompt);
    assert_eq!(bench.lookups.history.lane("other"), Lane::New);
}

#[test]
fn the_history_is_bounded_and_drops_the_oldest_first() {
    let mut history = History::default();
    for name in numbered("name", 5 * REMEMBERED / 2) {
        history.note(&name, Lane::Slow);
        assert!(history.recent.len() < REMEMBERED && history.older.len() <= REMEMBERED);
    }
    let lane = |number: usize| history.lane(&format!("name{number}"));
    assert_eq!(lane(REMEMBERED - 1), Lane::New);
    assert_eq!(lane(REMEMBERED), Lane::Slow);
    assert_eq!(lane(5 * REMEMBERED / 2 - 1), Lane::Slow);
}

#[test]
fn the_latest_lookup_takes_precedence_over_an_older_one() {
    let mut history = History::default();
    history.note("name", Lane::Slow);
    numbered("other", REMEMBERED - 1).for_each(|name| history.note(&name, Lane::Slow));
    assert_eq!(history.lane("name"), Lane::Slow, "it is in the older map");
    history.note("name", Lane::Prompt);
    assert_eq!(history.lane("name"), Lane::Prompt);
}

#[test]
fn idle_threads_end_after_15_s_except_for_four_that_wait_without_a_deadline() {
    let mut bench = Bench::new(by_prefix);
    bench.ask_all(numbered("hung", 20));
    bench.run_until(10_000 + IDLE_MS - 1);
    assert_eq!(bench.threads.len(), 20);
    bench.run_until(10_000 + IDLE_MS);
    assert_eq!(bench.threads.len(), 16, "the first four became idle first");
    let last_ms = bench.started.last().unwrap().0 + 10_000;
    bench.run_until(last_ms + IDLE_MS);
    assert_eq!(bench.threads.len(), FEW);
    assert_eq!(bench.lookups.next_deadline(), None);
}

#[test]
fn occasional_use_of_one_thread_does_not_keep_the_others() {
    let mut bench = Bench::new(by_prefix);
    bench.ask_all(numbered("hung", 20));
    bench.run_until(20_000);
    for second in 20..60 {
        bench.run_until(second * 1000);
        bench.ask("good");
    }
    assert_eq!(bench.threads.len(), FEW);
}

#[test]
fn a_refused_thread_is_an_error_only_without_any_other_thread() {
    let mut bench = Bench::new(by_prefix);
    bench.limit = 0;
    bench.ask("good");
    bench.ask("good");
    assert_eq!(bench.answers, [(0, 0, true), (0, 1, true)], "each request is tried");
    bench.limit = usize::MAX;
    bench.ask("hung");
    bench.limit = 0;
    bench.ask_all(["good1", "good2", "good3"]);
    assert_eq!(bench.answers.len(), 2, "they wait for the only thread");
    bench.run_out();
    assert_eq!(
        bench.answers[2..],
        [(10_000, 2, false), (10_001, 3, false), (10_002, 4, false), (10_003, 5, false)]
    );
    assert_eq!(bench.threads.len(), 1);
}

#[test]
fn the_next_thread_starts_a_second_after_a_refusal_and_not_at_999_ms() {
    let mut bench = Bench::new(by_prefix);
    bench.ask("never");
    bench.limit = 0;
    bench.ask("good1");
    bench.ask("good2");
    bench.limit = usize::MAX;
    bench.run_until(REFUSED_MS - 1);
    assert_eq!(bench.answers, []);
    bench.run_until(REFUSED_MS + 1);
    assert_eq!(bench.answers.len(), 2);
}

#[test]
fn names_that_hang_leave_some_threads_when_the_system_grants_only_8() {
    let mut bench = Bench::new(by_prefix);
    bench.ask_all(numbered("hung", 20));
    bench.ask("good");
    bench.run_until(60_000);
    bench.limit = 8;
    for seconds in 60..200 {
        bench.run_until(seconds * 1000);
        // The queue of these names never becomes empty.
        bench.ask_all(numbered("hung", 20));
        bench.ask("good");
        assert_eq!(bench.started_ms("good"), Some(seconds * 1000));
    }
    assert_eq!((bench.threads.len(), bench.busy()), (8, 8 - FEW + 1));
}

#[test]
fn a_single_thread_serves_names_of_all_lanes() {
    let mut bench = Bench::new(by_prefix);
    bench.limit = 1;
    for second in 0..100 {
        bench.run_until(second * 1000);
        bench.ask_all(["late1", "late2", "good"]);
    }
    bench.run_out();
    assert_eq!((bench.threads.len(), bench.answers.len()), (1, 300));
}

/// Returns the number of threads that a step grants to 1,000 waiting names.
fn granted(mut growth: Growth, width: usize, hanging: usize) -> usize {
    growth.step(1000, width, hanging, STEP_MS);
    assert_eq!((growth.due_ms, growth.returned), (2 * STEP_MS, 0));
    growth.granted
}

#[test]
fn lookups_double_beyond_64_when_fewer_than_one_in_16_returns() {
    let growth = |returned| Growth { live: MANY, returned, ..Growth::new(0) };
    // Without a previous step, each lookup counts twice.
    assert_eq!(granted(growth(3), 128, 0), 128);
    assert_eq!(granted(growth(4), 128, 0), 0);
    let growth = |returned, before| Growth { returned_before: Some(before), ..growth(returned) };
    assert_eq!(granted(growth(0, 7), 128, 0), 128);
    assert_eq!(granted(growth(7, 0), 128, 0), 128);
    assert_eq!(granted(growth(4, 4), 128, 0), 0);
    assert_eq!(granted(growth(0, 8), 128, 0), 0);
}

#[test]
fn each_lookup_that_hangs_is_replaced_by_another() {
    let growth = || Growth { live: MANY, returned: 50, ..Growth::new(0) };
    assert_eq!(granted(growth(), MANY + 100, 100), 0);
    assert_eq!(granted(growth(), MANY + 100, 110), 10);
}

#[test]
fn lookups_double_while_15_return_after_10_at_the_last_growth_and_not_while_14_do() {
    let growth = |returned| Growth {
        live: 8,
        returned,
        returned_before: Some(0),
        returned_at_growth: 10,
        ..Growth::new(0)
    };
    assert_eq!(granted(growth(15), 8, 0), 8);
    assert_eq!(granted(growth(14), 8, 0), 0);
    assert_eq!(granted(growth(14), 8, 1), 9, "one in eight hangs");
    assert_eq!(granted(growth(14), 16, 1), 0);
    assert_eq!(granted(Growth { live: MANY, ..growth(15) }, 8, 0), MANY - 8);
}

#[test]
fn steps_without_a_return_double_the_lookups_that_do_not_hang_up_to_64() {
    let mut growth = Growth::new(0);
    growth.step(1000, 10, 0, STEP_MS);
    assert_eq!((growth.granted, growth.live), (10, 20));
    growth.step(1000, 20, 0, 2 * STEP_MS);
    growth.step(1000, 40, 0, 3 * STEP_MS);
    assert_eq!((growth.granted, growth.live), (40, MANY));
}

#[test]
fn no_thread_is_granted_if_the_queue_will_be_empty_in_five_steps() {
    let growth = |returned| Growth { returned_before: Some(0), returned, ..Growth::new(0) };
    for (returned, wanted) in [(399, FEW), (400, 0)] {
        assert_eq!(granted(growth(returned), FEW, 0), wanted);
    }
}

/// The longest time in milliseconds until a name that is not slow starts, no matter which names hang.
///
/// It applies while the lane may have more threads and the system grants them. Most names start within a
/// second. It takes longest when many of 2,000 names hang and many others are slow.
const START_BOUND_MS: u64 = 120 * STEP_MS;

const SIM_NAMES: usize = 2000;
const SIM_MS: u64 = 90_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn each_request_is_answered_once_and_in_time_while_any_names_hang(seed: u64) {
        Sim::new(seed).run();
    }
}

/// A simulation with random requests for names, each prompt at one time and hanging at another.
///
/// The system occasionally refuses threads.
struct Sim {
    bench: Bench,
    rng: SmallRng,
    /// The number of names, which are the integers from 0.
    names: usize,
    /// The moments of the requests, each with a unique number.
    asks: BTreeSet<(u64, usize)>,
    /// The name of each request and whether it was answered, by waiter.
    asked: Vec<(usize, bool)>,
    /// The moments from which names of the prompt and new lanes wait for a thread, by name.
    queued: BTreeMap<String, u64>,
    /// The last moment at which no more threads could start.
    hindered_ms: Option<u64>,
    /// The numbers of started lookups and of answers that were checked.
    checked: (usize, usize),
}

impl Sim {
    fn new(seed: u64) -> Sim {
        let mut rng = SmallRng::seed_from_u64(seed);
        let most = SIM_NAMES >> rng.random_range(0..8);
        let names = rng.random_range(1..=most);
        // Half of the requests come in a burst at time 0, as at the start of a program.
        let asks = (0..rng.random_range(1..=2 * names))
            .map(|number| (rng.random_range(0..2) * rng.random_range(0..SIM_MS), number))
            .collect();
        let hanging_percent = rng.random_range(0..=100);
        let kind = move |name: &str, now_ms: u64| {
            let number: u64 = name.parse().unwrap();
            let period = now_ms / 30_000;
            let mut rng = SmallRng::seed_from_u64(seed ^ (number << 32) ^ period);
            match rng.random_range(0..100) {
                roll if roll >= hanging_percent => Kind::After(rng.random_range(0..300)),
                0..5 => Kind::Never,
                5..30 => Kind::After(rng.random_range(300..9000)),
                _ => Kind::After(10_000),
            }
        };
        Sim {
            bench: Bench::new(kind),
            rng,
            names,
            asks,
            asked: Vec::new(),
            queued: BTreeMap::new(),
            hindered_ms: None,
            checked: (0, 0),
        }
    }

    fn run(&mut self) {
        loop {
            let next = self.asks.first().filter(|&&(at_ms, _)| at_ms < SIM_MS).copied();
            let until_ms = next.map_or(u64::MAX, |(at_ms, _)| at_ms);
            if !self.bench.step(until_ms) {
                let Some(next) = next else { break };
                self.asks.remove(&next);
                self.bench.now_ms = next.0;
                self.ask();
            }
            self.check();
        }
        self.check_end();
    }

    fn ask(&mut self) {
        // The system refuses threads for a series of requests.
        if self.bench.limit < usize::MAX {
            if self.rng.random_range(0..20) == 0 {
                self.bench.limit = usize::MAX;
            }
        } else if self.rng.random_range(0..500) == 0 {
            self.bench.limit = self.rng.random_range(0..SIM_NAMES);
        }
        let number = self.rng.random_range(0..self.names);
        let name = number.to_string();
        self.asked.push((number, false));
        let lookups = &self.bench.lookups;
        if !lookups.waiting.contains_key(name.as_str()) && lookups.history.lane(&name) != Lane::Slow
        {
            self.queued.insert(name.clone(), self.bench.now_ms);
        }
        self.bench.ask(name);
    }

    fn check(&mut self) {
        let now_ms = self.bench.now_ms;
        for (at_ms, name) in &self.bench.started[self.checked.0..] {
            let Some(since_ms) = self.queued.remove(name) else { continue };
            let free_ms = self.hindered_ms.map_or(since_ms, |hindered| hindered.max(since_ms));
            assert!(at_ms - free_ms <= START_BOUND_MS, "{name} has waited since {free_ms}");
        }
        if self.bench.refused_ms.is_some_and(|refused_ms| now_ms <= refused_ms + REFUSED_MS)
            || self.bench.busy() >= self.bench.lookups.bounds[Lane::New as usize]
        {
            self.hindered_ms = Some(now_ms);
        }
        for &(_, waiter, is_refused) in &self.bench.answers[self.checked.1..] {
            let (name, is_answered) = &mut self.asked[waiter];
            assert!(!std::mem::replace(is_answered, true), "{waiter} was answered twice");
            if is_refused {
                self.queued.remove(&name.to_string());
            }
            // A later request for a random name follows.
            self.asks.insert((now_ms + self.rng.random_range(0..20_000), self.asked.len()));
        }
        self.checked = (self.bench.started.len(), self.bench.answers.len());
    }

    fn check_end(&self) {
        assert_eq!(self.bench.lookups.next_deadline(), None, "nothing is due at the end");
        assert!(self.bench.threads.len() - self.bench.busy() <= FEW, "idle threads are left");
        for (name, is_answered) in &self.asked {
            let is_hanging = self.bench.looked_up.contains(&name.to_string());
            let is_behind = self.bench.busy() >= self.bench.lookups.bounds[Lane::Slow as usize];
            assert!(*is_answered || is_hanging || is_behind, "{name} has no answer");
        }
    }
}
