//! The poll loop: sockets, readiness, the clock. The only room that names mio.
//!
//! A turn is: poll, readiness, time, actions, reading, what that leads to, publish. Sockets are opened
//! only when the events of the turn are used up, so no event can be taken for one of a socket that was
//! opened since. Time passes for the fleet when all that is known has been told, and before reading,
//! which may take long: nothing is given up for want of what came meanwhile. mio is edge-triggered: what
//! is left unread keeps its place in the fleet's queue and the poll does not sleep, or the connection
//! would never be heard of again.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use socket2::{SockRef, TcpKeepalive};

use crate::fleet::Fleet;
use crate::link::{Action, Cause, Counters, Event, Millis, Sink};
use crate::resolver::Resolver;
use crate::ring::{Producer, Wait};
use crate::run::StopHandle;
use crate::server::{Host, Server};

/// The token of the waker; sockets have their link's id.
const WAKER: Token = Token(usize::MAX);

/// The events that are taken from the system at once.
const EVENTS_PER_TURN: usize = 1024;

/// The answers of the resolver that are taken in a turn, so that a name that a thousand servers share
/// does not keep the connected ones waiting.
const ANSWERS_PER_TURN: usize = 64;

/// Numbers are published at the end of a turn, and when so many are staged within one.
const PUBLISH_AT: usize = 4096;

/// How a dead peer is noticed on a connection without traffic: a probe after 20 s of silence, then
/// every 5 s, and the connection is lost when three are not answered. (OpenBSD has one setting of the
/// last two for the whole system.)
fn keepalive() -> TcpKeepalive {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(20));
    #[cfg(not(target_os = "openbsd"))]
    let keepalive = keepalive.with_interval(Duration::from_secs(5)).with_retries(3);
    keepalive
}

/// A worker: a fleet, and the sockets and the clock that drive it.
pub(crate) struct Worker {
    poll: Poll,
    events: Events,
    fleet: Fleet,
    /// By link id: the socket, while there is one.
    sockets: Vec<Option<TcpStream>>,
    numbers: Producer<i64>,
    /// Whether the ring was full when last seen: nothing is read until there is room again.
    is_full: bool,
    /// Whether the resolver may have more answers than were taken in the last turn.
    has_answers: bool,
    names: Names,
    stop: StopHandle,
    epoch: Instant,
}

/// What a worker needs to have its names resolved.
struct Names {
    resolver: Option<Arc<Resolver>>,
    /// By link id, the latest attempt that waits for an answer. While there is one, the resolver is not
    /// asked again, however long it takes and however many attempts that is.
    asked: HashMap<usize, u32>,
    inbox: Receiver<Answer>,
    outbox: Sender<Answer>,
    waker: Waker,
}

/// An answer of the resolver: the link's id and the addresses.
type Answer = (usize, io::Result<Vec<SocketAddr>>);

/// The part of a worker that can fail to start.
#[derive(Debug)]
pub(crate) struct Poller {
    poll: Poll,
    waker: Waker,
}

impl Poller {
    /// Fails when the system has no descriptors left.
    pub(crate) fn new() -> io::Result<Poller> {
        let poll = Poll::new()?;
        let waker = Waker(Arc::new(mio::Waker::new(poll.registry(), WAKER)?));
        Ok(Poller { poll, waker })
    }

    /// What wakes the worker.
    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

/// Wakes a worker from any thread, so that it looks round.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Arc<mio::Waker>);

impl Waker {
    pub(crate) fn wake(&self) {
        // It fails only when the system is out of memory for one number, or the worker has ended.
        _ = self.0.wake();
    }
}

impl Worker {
    /// A worker that dials `servers` from its first turn on. `resolver` is needed if one of them has
    /// a name.
    pub(crate) fn new(
        poller: Poller,
        mut fleet: Fleet,
        servers: Vec<Server>,
        numbers: Producer<i64>,
        resolver: Option<Arc<Resolver>>,
        stop: StopHandle,
    ) -> Worker {
        let (outbox, inbox) = mpsc::channel();
        let sockets = servers.iter().map(|_| None).collect();
        for server in servers {
            fleet.add(server, 0);
        }
        Worker {
            poll: poller.poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            fleet,
            sockets,
            numbers,
            is_full: false,
            has_answers: false,
            names: Names { resolver, asked: HashMap::new(), inbox, outbox, waker: poller.waker },
            stop,
            epoch: Instant::now(),
        }
    }

    /// Works until told to stop or until there is nothing left to do, and returns what was done and
    /// how many servers have ended badly.
    pub(crate) fn run(mut self) -> (Counters, usize) {
        while !self.fleet.is_finished() {
            self.wait();
            if self.stop.is_stopped() {
                break;
            }
            let now = self.now();
            self.take_events(now);
            self.take_answers(now);
            self.fleet.on_time(now);
            self.act();
            self.read();
            self.act();
            self.numbers.publish();
        }
        self.fleet.shut_down();
        self.fleet.totals()
    }

    /// The time as the fleet sees it: rounded down, so that nothing is due before its time.
    fn now(&self) -> Millis {
        u64::try_from(self.epoch.elapsed().as_millis()).expect("half a billion years of uptime")
    }

    /// Sleeps until there is something to do.
    fn wait(&mut self) {
        if self.is_full {
            // Half the ring, so that the two threads do not wake each other for every few numbers.
            self.is_full = self.numbers.wait_for_room(self.numbers.capacity() / 2) == Wait::Pending;
        }
        let is_busy = self.has_answers || (self.fleet.has_ready() && !self.is_full);
        let timeout = if is_busy {
            Some(Duration::ZERO)
        } else {
            self.fleet.next_deadline().map(|deadline| {
                // mio rounds this up to what the system can wait for.
                Duration::from_millis(deadline).saturating_sub(self.epoch.elapsed())
            })
        };
        if let Err(error) = self.poll.poll(&mut self.events, timeout) {
            assert_eq!(error.kind(), io::ErrorKind::Interrupted, "the poll is ours: {error}");
        }
    }

    /// Sorts the events of this turn by what their links are doing, not by their flags alone.
    fn take_events(&mut self, now: Millis) {
        for event in &self.events {
            let id = event.token().0;
            // Absent for the waker, and for a socket that was closed since the event.
            let Some(Some(socket)) = self.sockets.get(id) else { continue };
            if !self.fleet.is_connected(id) {
                match connection(socket) {
                    Ok(true) => self.fleet.handle(id, Event::Connected, now),
                    Ok(false) => continue,
                    Err(cause) => {
                        // At once, so that another event of this turn is not taken for one of the
                        // socket to the next address.
                        close(self.poll.registry(), &mut self.sockets[id]);
                        self.fleet.handle(id, Event::Failed(cause), now);
                    }
                }
            }
            // Also after a connect: its event may have been that of the first bytes, too.
            self.fleet.on_ready(id, event.is_read_closed() || event.is_error());
        }
    }

    fn take_answers(&mut self, now: Millis) {
        for _ in 0..ANSWERS_PER_TURN {
            let Ok((id, result)) = self.names.inbox.try_recv() else {
                self.has_answers = false;
                return;
            };
            let attempt = self.names.asked.remove(&id).expect("what was asked is answered once");
            self.fleet.handle(id, Event::Resolved { attempt, result }, now);
        }
        self.has_answers = true;
    }

    /// Gives each connection that has something to read one turn.
    fn read(&mut self) {
        for _ in 0..self.fleet.ready_len() {
            if self.is_full {
                return;
            }
            let Some(id) = self.fleet.next_ready() else { return };
            // By now the others have been read, each for as long as its budget lasts.
            let now = self.now();
            let Some(socket) = &mut self.sockets[id] else { continue };
            self.is_full = !self.fleet.read(id, socket, &mut self.numbers, now);
            if self.numbers.staged() >= PUBLISH_AT {
                self.numbers.publish();
            }
        }
    }

    /// Carries out all that the fleet has asked for, so that when events come, a link's socket is the
    /// one that the link believes to have. How much it is in a turn is bounded by what asks for it.
    fn act(&mut self) {
        while let Some((id, action)) = self.fleet.next_action() {
            match action {
                Action::Close => close(self.poll.registry(), &mut self.sockets[id]),
                Action::Connect(address) => match open(self.poll.registry(), id, address) {
                    Ok(socket) => self.sockets[id] = Some(socket),
                    Err(error) => {
                        let now = self.now();
                        self.fleet.handle(id, Event::Failed(error.into()), now);
                    }
                },
                Action::Resolve { attempt } => {
                    self.names.resolve(id, attempt, self.fleet.server(id))
                }
            }
        }
    }
}

impl Names {
    fn resolve(&mut self, id: usize, attempt: u32, server: &Server) {
        if self.asked.insert(id, attempt).is_some() {
            return;
        }
        let resolver = self.resolver.as_ref().expect("there is a resolver if there is a name");
        let Host::Name(name) = server.host() else { unreachable!("an address is not resolved") };
        let (outbox, waker, port) = (self.outbox.clone(), self.waker.clone(), server.port());
        resolver.resolve(name, move |mut answer| {
            for address in answer.iter_mut().flatten() {
                address.set_port(port);
            }
            // A worker that has ended wants no answers any more.
            if outbox.send((id, answer)).is_ok() {
                waker.wake();
            }
        });
    }
}

impl Sink for Producer<i64> {
    fn room(&mut self, want: usize) -> usize {
        Producer::room(self, want)
    }

    fn push(&mut self, numbers: &[i64]) {
        self.stage(numbers);
    }
}

/// Opens a socket for a link, and starts to connect it.
fn open(registry: &Registry, id: usize, address: SocketAddr) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    // Writable says that it is connected, and never changes after that, as nothing is written.
    registry.register(&mut socket, Token(id), Interest::READABLE | Interest::WRITABLE)?;
    Ok(socket)
}

/// Closes a link's socket, if it has one.
fn close(registry: &Registry, socket: &mut Option<TcpStream>) {
    if let Some(mut socket) = socket.take() {
        // Closing it would do on most systems; mio asks for this on all of them.
        _ = registry.deregister(&mut socket);
    }
}

/// Whether a socket that was told to connect is connected by now. If so, it has keepalive on.
fn connection(socket: &TcpStream) -> Result<bool, Cause> {
    if let Some(error) = socket.take_error()? {
        return Err(error.into());
    }
    match socket.peer_addr() {
        Ok(peer) if socket.local_addr()? == peer => {
            // Closed in good order, it would keep the server from its own port for a minute.
            SockRef::from(socket).set_linger(Some(Duration::ZERO))?;
            Err(Cause::ConnectedToItself)
        }
        Ok(_) => {
            // Only now, which saves four system calls for each attempt that fails.
            SockRef::from(socket).set_tcp_keepalive(&keepalive())?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::fleet::TIMERS_PER_TURN;
    use crate::link::Policy;
    use crate::ring::{Doorbell, ring};
    use socket2::{Domain, Socket, Type};
    use std::net::{Ipv4Addr, TcpListener};

    fn socket() -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    fn nonblocking(socket: Socket) -> TcpStream {
        socket.set_nonblocking(true).unwrap();
        TcpStream::from_std(socket.into())
    }

    #[test]
    fn a_socket_that_is_connected_to_itself_is_not_connected() {
        let (socket, address) = socket();
        socket.connect(&address.into()).unwrap();
        let socket = nonblocking(socket);
        let result = connection(&socket);
        assert!(matches!(result, Err(Cause::ConnectedToItself)), "{result:?}");
        drop(socket);
        // The port is free for the server at once, even for one that does not ask for reuse.
        let server = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        server.bind(&address.into()).unwrap();
    }

    #[test]
    fn a_socket_with_another_as_its_peer_is_connected_and_kept_alive() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (socket, _) = socket();
        socket.connect(&listener.local_addr().unwrap().into()).unwrap();
        let socket = nonblocking(socket);
        assert!(connection(&socket).unwrap());
        let socket = SockRef::from(&socket);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(20));
        #[cfg(not(target_os = "openbsd"))]
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
        #[cfg(not(target_os = "openbsd"))]
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    }

    #[test]
    fn every_action_is_carried_out_before_the_next_event() {
        // Bound, so that nobody else is, and not listening: each attempt fails sooner or later.
        let (_socket, address) = socket();
        let server: Server = address.to_string().parse().unwrap();
        let config = Config::builder().servers([server.clone()]).build().unwrap();
        let servers = vec![server; 4 * TIMERS_PER_TURN];
        let (numbers, _consumer) = ring(1, &Doorbell::new(), || ());
        let fleet = Fleet::new(0, Policy::from(&config), 1, 0);
        let stop = StopHandle::new(vec![]);
        let mut worker = Worker::new(Poller::new().unwrap(), fleet, servers, numbers, None, stop);
        while worker.fleet.next_deadline() == Some(0) {
            worker.fleet.on_time(0);
        }
        worker.act();
        assert_eq!(worker.fleet.next_action(), None);
    }

    #[test]
    fn a_socket_that_was_never_connected_is_not_yet() {
        let (socket, _) = socket();
        assert!(!connection(&nonblocking(socket)).unwrap());
    }
}
