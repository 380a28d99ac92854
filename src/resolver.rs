//! From names to addresses, off the event loop.
//!
//! The system's resolver blocks, for half a minute when its name servers are away, so each lookup has
//! a thread of its own, [`MAX_LOOKUPS`] of them at most; the rest queue up. A name that is being looked
//! up already is not looked up a second time: whoever asks meanwhile gets the same answer. Nothing is
//! cached beyond that.
//!
//! Asking never blocks. A lookup that hangs holds up neither the other names, while
//! there are fewer than [`MAX_LOOKUPS`] such, nor the end of the program.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

/// How many lookups may be under way at once.
const MAX_LOOKUPS: usize = 16;

/// What a lookup yields: addresses with port 0, in the resolver's order, each once.
type Answer = io::Result<Vec<SocketAddr>>;

/// Called once with the answer, on the resolver's thread; must not block.
type Deliver = Box<dyn FnOnce(Answer) + Send>;

/// The way to the resolver's thread, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Resolver {
    inbox: Sender<Message>,
}

impl Resolver {
    /// Starts the resolver's thread.
    pub(crate) fn start() -> io::Result<Resolver> {
        Resolver::with_lookup(system_lookup)
    }

    fn with_lookup(lookup: fn(&str) -> Answer) -> io::Result<Resolver> {
        let (inbox, messages) = mpsc::channel();
        let desk = Desk {
            lookup,
            inbox: inbox.clone(),
            waiting: HashMap::new(),
            queue: VecDeque::new(),
            running: 0,
        };
        thread::Builder::new().name("resolver".into()).spawn(move || desk.serve(&messages))?;
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
        // It can only fail if the thread is gone, which is what it asks for.
        _ = self.inbox.send(Message::Stop);
    }
}

enum Message {
    Ask { name: String, deliver: Deliver },
    Found { name: String, answer: Answer },
    Stop,
}

/// What the resolver's thread knows.
struct Desk {
    lookup: fn(&str) -> Answer,
    inbox: Sender<Message>,
    /// Who waits for which name; a name stands here while it is queued or looked up.
    waiting: HashMap<String, Vec<Deliver>>,
    /// The names that wait for a thread.
    queue: VecDeque<String>,
    /// The lookups under way: at most `MAX_LOOKUPS`.
    running: usize,
}

impl Desk {
    fn serve(mut self, messages: &Receiver<Message>) {
        for message in messages {
            match message {
                Message::Ask { name, deliver } => match self.waiting.entry(name) {
                    Entry::Occupied(mut waiting) => waiting.get_mut().push(deliver),
                    Entry::Vacant(vacant) => {
                        self.queue.push_back(vacant.key().clone());
                        vacant.insert(vec![deliver]);
                    }
                },
                Message::Found { name, answer } => {
                    self.running -= 1;
                    self.deliver(&name, &answer);
                }
                Message::Stop => return,
            }
            while self.running < MAX_LOOKUPS
                && let Some(name) = self.queue.pop_front()
            {
                self.look_up(name);
            }
        }
    }

    fn look_up(&mut self, name: String) {
        let (lookup, inbox, asked) = (self.lookup, self.inbox.clone(), name.clone());
        let spawned = thread::Builder::new().name("lookup".into()).spawn(move || {
            let answer = lookup(&asked);
            // Nobody wants the answer any more if the resolver has stopped.
            _ = inbox.send(Message::Found { name: asked, answer });
        });
        match spawned {
            Ok(_) => self.running += 1,
            Err(error) => self.deliver(&name, &Err(error)),
        }
    }

    fn deliver(&mut self, name: &str, answer: &Answer) {
        for deliver in self.waiting.remove(name).unwrap_or_default() {
            deliver(match answer {
                Ok(addresses) => Ok(addresses.clone()),
                // An io::Error has no Clone; its kind and words are what matters here.
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
    }
}

fn system_lookup(name: &str) -> Answer {
    let mut seen = BTreeSet::new();
    Ok((name, 0).to_socket_addrs()?.filter(|address| seen.insert(*address)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Barrier, LazyLock, Mutex};
    use std::time::Duration;

    const DEADLINE: Duration = Duration::from_secs(60);

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 0))
    }

    /// Resolves each name with `resolver`, answers going to one channel with the name's place.
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
        let resolver = Resolver::with_lookup(lookup).unwrap();
        let answers = ask(&resolver, &["a", "a", "b"]);
        for _ in 0..3 {
            let (_, answer) = answers.recv_timeout(DEADLINE).unwrap();
            assert_eq!(answer.unwrap_err().to_string(), "no such name");
        }
    }

    #[test]
    fn a_hanging_name_holds_up_no_other_and_not_the_end() {
        static RELEASE: Barrier = Barrier::new(2);
        let lookup = |name: &str| {
            if name == "hangs" {
                RELEASE.wait();
            }
            Ok(vec![address(1)])
        };
        let resolver = Resolver::with_lookup(lookup).unwrap();
        let answers = ask(&resolver, &["hangs", "answers"]);
        assert_eq!(answers.recv_timeout(DEADLINE).unwrap().0, 1);
        drop(resolver);
        // With the resolver gone, nobody can answer the other one any more.
        assert!(answers.recv_timeout(DEADLINE).is_err());
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
        let resolver = Resolver::with_lookup(lookup).unwrap();
        let answers = ask(&resolver, &["name", "name", "name"]);
        RELEASE.wait();
        for _ in 0..3 {
            assert_eq!(answers.recv_timeout(DEADLINE).unwrap().1.unwrap(), [address(1)]);
        }
        // Asked again, it is looked up again.
        let answers = ask(&resolver, &["name"]);
        RELEASE.wait();
        assert_eq!(answers.recv_timeout(DEADLINE).unwrap().1.unwrap(), [address(2)]);
    }

    #[test]
    fn one_more_than_may_run_at_once_waits_its_turn() {
        static STARTED: LazyLock<(Sender<()>, Mutex<Receiver<()>>)> = LazyLock::new(|| {
            let (sender, receiver) = mpsc::channel();
            (sender, Mutex::new(receiver))
        });
        static RELEASE: Barrier = Barrier::new(MAX_LOOKUPS + 1);
        let lookup = |name: &str| {
            STARTED.0.send(()).unwrap();
            if name != "last" {
                RELEASE.wait();
            }
            Ok(vec![address(1)])
        };
        let resolver = Resolver::with_lookup(lookup).unwrap();
        let names: Vec<String> = (0..MAX_LOOKUPS).map(|i| format!("name{i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).chain(["last"]).collect();
        let answers = ask(&resolver, &names);
        let started = STARTED.1.lock().unwrap();
        for _ in 0..MAX_LOOKUPS {
            started.recv_timeout(DEADLINE).unwrap();
        }
        assert!(started.try_recv().is_err(), "the last name is looked up before its turn");
        RELEASE.wait();
        started.recv_timeout(DEADLINE).unwrap();
        assert_eq!(answers.iter().take(MAX_LOOKUPS + 1).count(), MAX_LOOKUPS + 1);
    }
}
