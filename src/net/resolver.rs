//! Looks names up on threads of their own, off the event loop.
//!
//! The system's lookup blocks its thread. [`Lookups`] decides how many threads there are and which names they
//! look up. One thread, the resolver, carries out its orders. The threads communicate through channels, so
//! asking never blocks, and no thread waits for a lock.
//!
//! A lookup cannot be canceled. One that hangs delays neither the other names nor the end of the program.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use log::warn;

use crate::proto::lookups::{Lookups, Order};
use crate::threads;

/// The stack of a thread that looks names up, in bytes.
///
/// musl runs `getaddrinfo` within its default stack of 128 KiB. glibc allocates at most a quarter of the
/// stack at a time, and at most 64 KiB, before it uses the heap. In 256 KiB that is the same as in the usual
/// 8 MiB. Only used pages take memory, but all pages count where overcommitting is off.
const STACK_BYTES: usize = 256 * 1024;

/// The descriptors that the process may have for each lookup under way. Each lookup holds one, of a socket
/// or a file. Names that hang must leave enough descriptors to the connections.
const DESCRIPTORS_PER_LOOKUP: u64 = 4;

/// The answer to a lookup: addresses with port 0, in the system's order, each once.
type Answer = io::Result<Vec<SocketAddr>>;

/// Takes the answer, on the resolver's thread. It must not block.
type Deliver = Box<dyn FnOnce(Answer) + Send>;

/// A handle of the resolver's thread, which ends when the handle is dropped.
#[derive(Debug)]
pub(crate) struct Resolver {
    inbox: Sender<Message>,
}

impl Resolver {
    /// Starts the resolver's thread.
    pub(crate) fn start() -> io::Result<Resolver> {
        Resolver::with_lookup(system_lookup, STACK_BYTES)
    }

    fn with_lookup(lookup: fn(&str) -> Answer, stack_bytes: usize) -> io::Result<Resolver> {
        let (inbox, messages) = mpsc::channel();
        let desk = Desk::new(lookup, stack_bytes, inbox.clone());
        threads::spawn("resolver", move || desk.serve(&messages))?;
        Ok(Resolver { inbox })
    }

    /// Looks `name` up and calls `deliver` with the answer.
    pub(crate) fn resolve(&self, name: &str, deliver: impl FnOnce(Answer) + Send + 'static) {
        let ask = Message::Ask { name: name.into(), deliver: Box::new(deliver) };
        self.inbox.send(ask).expect("the resolver's thread lives until self is dropped");
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        // It fails only if the thread has ended, which is the purpose.
        _ = self.inbox.send(Message::Stop);
    }
}

enum Message {
    Ask { name: Box<str>, deliver: Deliver },
    Found { thread: usize, answer: Answer },
    Stop,
}

/// The state of the resolver's thread.
struct Desk {
    lookup: fn(&str) -> Answer,
    stack_bytes: usize,
    inbox: Sender<Message>,
    lookups: Lookups<Deliver>,
    /// The channels to the threads that look names up, by number. A thread ends when its channel is dropped.
    threads: HashMap<usize, Sender<Box<str>>>,
    /// Whether the system refused the last thread that was to be started.
    is_refused: bool,
    epoch: Instant,
}

impl Desk {
    fn new(lookup: fn(&str) -> Answer, stack_bytes: usize, inbox: Sender<Message>) -> Desk {
        Desk {
            lookup,
            stack_bytes,
            inbox,
            lookups: Lookups::new(most_lookups()),
            threads: HashMap::new(),
            is_refused: false,
            epoch: Instant::now(),
        }
    }

    fn serve(mut self, messages: &Receiver<Message>) {
        loop {
            match self.next_message(messages) {
                Some(Message::Ask { name, deliver }) => self.lookups.ask(name, deliver),
                Some(Message::Found { thread, answer }) => {
                    deliver(self.lookups.found(thread, self.now_ms()), &answer);
                }
                Some(Message::Stop) => return,
                None => {}
            }
            while let Some(order) = self.lookups.next_order(self.now_ms()) {
                self.carry_out(order);
            }
        }
    }

    /// Waits for a message. Returns `None` if the deadline has come first.
    fn next_message(&self, messages: &Receiver<Message>) -> Option<Message> {
        let Some(deadline_ms) = self.lookups.next_deadline() else {
            return Some(messages.recv().expect("self holds a sender"));
        };
        let left = Duration::from_millis(deadline_ms).saturating_sub(self.epoch.elapsed());
        messages.recv_timeout(left).ok()
    }

    /// The time in milliseconds, rounded down, so that nothing is due before its time.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).expect("half a billion years of uptime")
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Start { thread, name } => self.start(thread, name),
            Order::LookUp { thread, name } => {
                self.threads[&thread].send(name).expect("a thread lives until it is told to end");
            }
            Order::End { thread } => drop(self.threads.remove(&thread)),
        }
    }

    fn start(&mut self, thread: usize, name: Box<str>) {
        let (sender, names) = mpsc::channel();
        sender.send(name).expect("the receiver is here");
        let (lookup, inbox) = (self.lookup, self.inbox.clone());
        let spawned = thread::Builder::new()
            .name(format!("lookup-{thread}"))
            .stack_size(self.stack_bytes)
            .spawn(move || {
                for name in names {
                    // It fails if the resolver has stopped. Then no name follows.
                    _ = inbox.send(Message::Found { thread, answer: lookup(&name) });
                }
            });
        match spawned {
            Ok(_) => {
                self.is_refused = false;
                self.threads.insert(thread, sender);
            }
            Err(error) => self.refused(thread, &error),
        }
    }

    fn refused(&mut self, thread: usize, error: &io::Error) {
        let waiting = self.lookups.refused(thread, self.now_ms());
        let text = format!(
            "the system grants no thread to look it up, raise its limit (ulimit -u): {error}"
        );
        deliver(waiting, &Err(io::Error::new(error.kind(), text)));
        let threads = self.lookups.threads();
        if self.is_news(threads) {
            warn!(
                "The system refuses another thread to look up names beside {threads}, \
                 raise its limit (ulimit -u): {error}"
            );
        }
    }

    /// Says whether a refusal beside this number of threads is logged: the first of a series is. Without any
    /// thread, the delivered errors report the refusal.
    fn is_news(&mut self, threads: usize) -> bool {
        threads > 0 && !std::mem::replace(&mut self.is_refused, true)
    }
}

fn deliver(waiting: Vec<Deliver>, answer: &Answer) {
    for deliver in waiting {
        deliver(match answer {
            Ok(addresses) => Ok(addresses.clone()),
            // An io::Error has no Clone. The copy keeps its kind and its text.
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        });
    }
}

/// Returns how many lookups may be under way, by the limit of open files.
fn most_lookups() -> usize {
    #[cfg(unix)]
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let descriptors: Option<u64> = None;
    descriptors.map_or(usize::MAX, |descriptors| {
        usize::try_from(descriptors / DESCRIPTORS_PER_LOOKUP).unwrap_or(usize::MAX)
    })
}

fn system_lookup(name: &str) -> Answer {
    let mut seen = BTreeSet::new();
    Ok((name, 0).to_socket_addrs()?.filter(|address| seen.insert(*address)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::RecvTimeoutError;
    use std::sync::{Barrier, Mutex};

    const DEADLINE: Duration = Duration::from_secs(60);

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 0))
    }

    /// Resolves each name. The answers go to one channel, each with the position of its name.
    fn ask(resolver: &Resolver, names: &[&str]) -> Receiver<(usize, Answer)> {
        let (answers, inbox) = mpsc::channel();
        for (place, name) in names.iter().enumerate() {
            let answers = answers.clone();
            resolver.resolve(name, move |answer| _ = answers.send((place, answer)));
        }
        inbox
    }

    #[test]
    fn localhost_has_a_loopback_address() {
        let resolver = Resolver::start().unwrap();
        let (_, answer) = ask(&resolver, &["localhost"]).recv_timeout(DEADLINE).unwrap();
        let addresses = answer.unwrap();
        assert!(addresses.iter().any(|address| address.ip().is_loopback()), "{addresses:?}");
    }

    #[test]
    fn an_error_reaches_everyone_who_waits() {
        let lookup = |_: &str| Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
        let resolver = Resolver::with_lookup(lookup, STACK_BYTES).unwrap();
        let answers = ask(&resolver, &["a", "a", "b"]);
        for _ in 0..3 {
            let (_, answer) = answers.recv_timeout(DEADLINE).unwrap();
            assert_eq!(answer.unwrap_err().to_string(), "no such name");
        }
    }

    #[test]
    fn hanging_names_hold_up_no_other_and_not_the_end() {
        const HANGING: usize = 20;
        static RELEASE: Barrier = Barrier::new(HANGING + 1);
        let lookup = |name: &str| {
            if name != "answers" {
                RELEASE.wait();
            }
            Ok(vec![address(1)])
        };
        let resolver = Resolver::with_lookup(lookup, STACK_BYTES).unwrap();
        let hanging: Vec<_> = (0..HANGING).map(|number| format!("hangs{number}")).collect();
        let names: Vec<_> = hanging.iter().map(String::as_str).chain(["answers"]).collect();
        let answers = ask(&resolver, &names);
        assert_eq!(answers.recv_timeout(DEADLINE).unwrap().0, HANGING);
        drop(resolver);
        // The resolver has ended, so the other names get no answers.
        assert_eq!(answers.recv_timeout(DEADLINE).unwrap_err(), RecvTimeoutError::Disconnected);
        RELEASE.wait();
    }

    #[test]
    fn one_lookup_serves_all_who_ask_meanwhile() {
        static LOOKUPS: Mutex<u8> = Mutex::new(0);
        static RELEASE: Barrier = Barrier::new(2);
        let lookup = |_: &str| {
            RELEASE.wait();
            let mut lookups = LOOKUPS.lock().unwrap();
            *lookups += 1;
            Ok(vec![address(*lookups)])
        };
        let resolver = Resolver::with_lookup(lookup, STACK_BYTES).unwrap();
        let answers = ask(&resolver, &["name", "name", "name"]);
        RELEASE.wait();
        for _ in 0..3 {
            assert_eq!(answers.recv_timeout(DEADLINE).unwrap().1.unwrap(), [address(1)]);
        }
        // A second request is a second lookup.
        let answers = ask(&resolver, &["name"]);
        RELEASE.wait();
        assert_eq!(answers.recv_timeout(DEADLINE).unwrap().1.unwrap(), [address(2)]);
    }

    /// Returns the name of the current thread, as an error.
    fn thread_name(_: &str) -> Answer {
        Err(io::Error::other(thread::current().name().unwrap_or("unnamed")))
    }

    #[test]
    fn threads_have_names_and_serve_one_name_after_another() {
        let resolver = Resolver::with_lookup(thread_name, STACK_BYTES).unwrap();
        for name in ["a", "b", "a"] {
            let (_, answer) = ask(&resolver, &[name]).recv_timeout(DEADLINE).unwrap();
            assert_eq!(answer.unwrap_err().to_string(), "lookup-0");
        }
    }

    #[test]
    fn without_any_thread_all_who_wait_get_an_error_that_says_so() {
        // No system grants such a stack.
        let resolver = Resolver::with_lookup(thread_name, usize::MAX / 4).unwrap();
        let answers = ask(&resolver, &["a", "b"]);
        for _ in 0..2 {
            let error = answers.recv_timeout(DEADLINE).unwrap().1.unwrap_err().to_string();
            assert!(error.starts_with("the system grants no thread to look it up"), "{error}");
        }
    }

    #[test]
    fn the_first_of_a_series_of_refusals_is_logged_unless_it_is_an_error() {
        let (inbox, messages) = mpsc::channel();
        let mut desk = Desk::new(thread_name, STACK_BYTES, inbox);
        for _ in 0..2 {
            let news = [0, 1, 2, 0].map(|threads| desk.is_news(threads));
            assert_eq!(news, [false, true, false, false]);
            // A granted thread ends the series.
            desk.carry_out(Order::Start { thread: 0, name: "name".into() });
            messages.recv_timeout(DEADLINE).unwrap();
        }
    }

    /// Sends a message when its thread ends.
    struct ExitReason(Sender<()>);

    impl Drop for ExitReason {
        fn drop(&mut self) {
            _ = self.0.send(());
        }
    }

    /// Returns a desk whose threads have each looked a name up and wait for the next, and a channel with a
    /// message for each thread that ends.
    fn desk(threads: usize) -> (Desk, Receiver<()>) {
        static ENDED: Mutex<Option<Sender<()>>> = Mutex::new(None);
        thread_local! {
            static ENDING: ExitReason = ExitReason(ENDED.lock().unwrap().clone().unwrap());
        }
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock();
        let (ended, endings) = mpsc::channel();
        *ENDED.lock().unwrap() = Some(ended);
        let (inbox, messages) = mpsc::channel();
        let lookup = |_: &str| {
            ENDING.with(|_| ());
            Ok(vec![])
        };
        let mut desk = Desk::new(lookup, STACK_BYTES, inbox);
        for thread in 0..threads {
            desk.carry_out(Order::Start { thread, name: "name".into() });
        }
        for _ in 0..threads {
            assert!(matches!(messages.recv_timeout(DEADLINE), Ok(Message::Found { .. })));
        }
        *ENDED.lock().unwrap() = None;
        (desk, endings)
    }

    #[test]
    fn a_thread_ends_when_it_is_told_to() {
        let (mut desk, endings) = desk(2);
        desk.carry_out(Order::End { thread: 0 });
        endings.recv_timeout(DEADLINE).unwrap();
        assert_eq!(desk.threads.len(), 1);
        assert!(endings.try_recv().is_err(), "the other one waits for a name");
    }

    #[test]
    fn idle_threads_end_with_the_resolver() {
        let (desk, endings) = desk(3);
        drop(desk);
        for _ in 0..3 {
            endings.recv_timeout(DEADLINE).unwrap();
        }
    }
}
