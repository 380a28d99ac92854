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
mod tests;
