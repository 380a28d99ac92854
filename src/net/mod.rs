//! The I/O of a worker, with mio: sockets, readiness, the clock, the resolver's answers.
//!
//! The only module that names mio. What it promises is written at [`Io`]; beyond that there is nothing to
//! decide here.

pub(crate) mod resolver;

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use log::warn;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::address::{Host, Server};
use crate::net::resolver::Resolver;
use crate::proto::connection_error::ConnectionError;
use crate::proto::link::Sink;
use crate::proto::link_id::LinkId;
use crate::proto::socket_id::SocketId;
use crate::proto::time::Millis;
use crate::proto::worker::{Handshake, Io, Polled, Ready};
use crate::ring::{Producer, Wait};
use crate::stop::StopHandle;

/// The token of the waker; sockets have their own number.
const WAKER: Token = Token(usize::MAX);

/// The events that are taken from the system at once.
const EVENTS_PER_POLL: usize = 1024;

/// Records are published at the end of a turn, and when so many are staged within one.
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

/// Where priority data (TCP's urgent mark) can be polled for.
const HAS_PRIORITY: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// The part of a worker's I/O that can fail to start.
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

/// Wakes a worker from any thread, so that it does another turn.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Arc<mio::Waker>);

impl Waker {
    pub(crate) fn wake(&self) {
        // It fails only when the system is out of memory for one number, or the worker has ended.
        _ = self.0.wake();
    }
}

/// The I/O of one worker.
#[derive(Debug)]
pub(crate) struct Net {
    poll: Poll,
    events: Events,
    /// By number: the socket, while there is one.
    sockets: Vec<Option<TcpStream>>,
    lookups: Lookups,
    stop: StopHandle,
    epoch: Instant,
}

/// What a worker needs to have its names resolved.
#[derive(Debug)]
struct Lookups {
    resolver: Option<Arc<Resolver>>,
    inbox: Receiver<Answer>,
    outbox: Sender<Answer>,
    waker: Waker,
}

/// An answer of the resolver: the link's id and the addresses.
type Answer = (LinkId, io::Result<Vec<SocketAddr>>);

impl Net {
    /// The I/O of a worker whose time begins now, at 0. `resolver` is needed if a server has a name.
    pub(crate) fn new(poller: Poller, resolver: Option<Arc<Resolver>>, stop: StopHandle) -> Net {
        let (outbox, inbox) = mpsc::channel();
        Net {
            poll: poller.poll,
            events: Events::with_capacity(EVENTS_PER_POLL),
            sockets: Vec::new(),
            lookups: Lookups { resolver, inbox, outbox, waker: poller.waker },
            stop,
            epoch: Instant::now(),
        }
    }

    fn socket(&self, id: SocketId) -> Option<&TcpStream> {
        self.sockets.get(id.0)?.as_ref()
    }
}

impl Io for Net {
    /// Where readiness comes from epoll, a short read tells as much as the next one, which would block
    /// (epoll(7)). The exception is TCP's urgent mark, at which a read stops early: the poll tells of it.
    /// What arrives later makes an event of its own.
    const SHORT_READ_MEANS_DRAINED: bool = HAS_PRIORITY;

    fn is_stopped(&self) -> bool {
        self.stop.is_stopped()
    }

    fn now(&mut self) -> Millis {
        u64::try_from(self.epoch.elapsed().as_millis()).expect("half a billion years of uptime")
    }

    fn poll(&mut self, until: Option<Millis>, events: &mut Vec<Ready>) -> Polled {
        // mio rounds this up to what the system can wait for.
        let timeout =
            until.map(|at| Duration::from_millis(at).saturating_sub(self.epoch.elapsed()));
        events.clear();
        if let Err(error) = self.poll.poll(&mut self.events, timeout) {
            assert_eq!(error.kind(), io::ErrorKind::Interrupted, "the poll is ours: {error}");
            return Polled::Interrupted;
        }
        let mut len = 0;
        for event in &self.events {
            len += 1;
            if event.token() != WAKER {
                events.push(Ready { socket: SocketId(event.token().0), read_on: read_on(event) });
            }
        }
        if len < EVENTS_PER_POLL { Polled::Complete } else { Polled::Full }
    }

    fn connect(&mut self, id: SocketId, address: SocketAddr) -> Result<(), ConnectionError> {
        let mut socket = open(address)?;
        self.poll.registry().register(&mut socket, Token(id.0), interest())?;
        if id.0 >= self.sockets.len() {
            self.sockets.resize_with(id.0 + 1, || None);
        }
        debug_assert!(self.sockets[id.0].is_none());
        self.sockets[id.0] = Some(socket);
        Ok(())
    }

    fn handshake(&mut self, id: SocketId) -> Result<Handshake, ConnectionError> {
        self.socket(id).map_or(Ok(Handshake::Pending), handshake)
    }

    fn read(&mut self, id: SocketId, buf: &mut [u8]) -> io::Result<usize> {
        match self.socket(id) {
            Some(mut socket) => socket.read(buf),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn close(&mut self, id: SocketId) {
        let Some(mut socket) = self.sockets.get_mut(id.0).and_then(Option::take) else { return };
        // Closing it would do on most systems; mio asks for this on all of them.
        _ = self.poll.registry().deregister(&mut socket);
    }

    fn resolve(&mut self, id: LinkId, server: &Server) {
        self.lookups.resolve(id, server);
    }

    fn answer(&mut self) -> Option<Answer> {
        self.lookups.inbox.try_recv().ok()
    }
}

impl Lookups {
    fn resolve(&self, id: LinkId, server: &Server) {
        let resolver = self.resolver.as_ref().expect("there is a resolver if there is a name");
        let Host::Name(name) = server.host() else { unreachable!("an address is not resolved") };
        let (outbox, waker, port) = (self.outbox.clone(), self.waker.clone(), server.port());
        resolver.resolve(name, move |mut answer| {
            for address in answer.iter_mut().flatten() {
                address.set_port(port);
            }
            // A worker that has ended takes no answers any more.
            if outbox.send((id, answer)).is_ok() {
                waker.wake();
            }
        });
    }
}

impl<T: Copy + Send> Sink<T> for Producer<T> {
    fn room(&mut self, want: usize) -> usize {
        Producer::room(self, want)
    }

    fn push(&mut self, records: &[T]) {
        self.stage(records);
        if self.staged() >= PUBLISH_AT {
            Producer::publish(self);
        }
    }

    fn publish(&mut self) {
        Producer::publish(self);
    }

    fn wait_for_room(&mut self) -> bool {
        // Half the ring, so that the two threads do not wake each other for every few numbers.
        Producer::wait_for_room(self, self.capacity() / 2) == Wait::Pending
    }
}

/// Whether a read may be short of what there is.
fn read_on(event: &Event) -> bool {
    event.is_read_closed() || event.is_error() || event.is_priority()
}

/// Writable says that a socket is connected, and never changes after that, as nothing is written.
fn interest() -> Interest {
    let interest = Interest::READABLE | Interest::WRITABLE;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let interest = interest | Interest::PRIORITY;
    interest
}

/// Opens a socket and starts to connect it.
fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = nonblocking_socket(Domain::for_address(address))?;
    keep_urgent_data_in_place(&socket);
    match socket.connect(&address.into()) {
        Err(error) if !is_in_progress(&error) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

fn nonblocking_socket(domain: Domain) -> io::Result<Socket> {
    // On Linux one system call does both.
    #[cfg(target_os = "linux")]
    return Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP));
    #[cfg(not(target_os = "linux"))]
    {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error());
    #[cfg(not(unix))]
    return error.kind() == io::ErrorKind::WouldBlock;
}

/// How far a socket is that was told to connect. If it is connected, it has keepalive on.
fn handshake(socket: &TcpStream) -> Result<Handshake, ConnectionError> {
    if let Some(error) = socket.take_error()? {
        return if ends_a_connection(&error) {
            Ok(Handshake::Lost(error.into()))
        } else {
            Err(error.into())
        };
    }
    match socket.peer_addr() {
        Ok(peer) if socket.local_addr().is_ok_and(|local| local == peer) => {
            // Closed in good order, it would keep the server from its own port for a minute. If that
            // cannot be had, the minute has to be waited for.
            _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
            Err(ConnectionError::ConnectedToItself)
        }
        Ok(_) => {
            // Only now, which saves four system calls for each attempt that fails.
            keep_alive(socket);
            Ok(Handshake::Connected)
        }
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(Handshake::Pending),
        Err(error) => Err(error.into()),
    }
}

/// Whether only a connection that was made can have this error. A reset in answer to the first packet is
/// reported as refused, and one after the server's end of the stream as a broken pipe.
fn ends_a_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Leaves urgent data in its place in the stream. Taken out of it, the lines on either side of an urgent
/// newline would become one.
fn keep_urgent_data_in_place(socket: &Socket) {
    static IS_WARNED: AtomicBool = AtomicBool::new(false);
    warn_once(&IS_WARNED, socket.set_out_of_band_inline(true), |error| {
        format!("SO_OOBINLINE ({error}), so a newline that is sent as urgent data is lost")
    });
}

/// Turns keepalive on.
fn keep_alive(socket: &TcpStream) {
    static IS_WARNED: AtomicBool = AtomicBool::new(false);
    warn_once(&IS_WARNED, SockRef::from(socket).set_tcp_keepalive(&keepalive()), |error| {
        format!(
            "TCP keepalive ({error}), so a server that is gone without notice counts as connected; \
             --idle-timeout notices it"
        )
    });
}

/// Warns if the system refuses a socket option, as some sandboxes do: once, as it will refuse it again. The
/// connection is good all the same.
fn warn_once(is_warned: &AtomicBool, set: io::Result<()>, what: impl FnOnce(io::Error) -> String) {
    if let Err(error) = set
        && !is_warned.swap(true, Relaxed)
    {
        warn!("The system refuses {}", what(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::io::Write;
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

    /// A worker's I/O, and a connection of it to a listener, with the listener's end.
    fn connected() -> (Net, SocketId, std::net::TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stop = StopHandle::new(vec![]);
        let mut net = Net::new(Poller::new().unwrap(), None, stop);
        let id = SocketId(3);
        net.connect(id, listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        (net, id, peer)
    }

    /// Polls until the socket has been mentioned, and returns whether to read on.
    fn poll_for(net: &mut Net, id: SocketId) -> bool {
        let mut events = Vec::new();
        loop {
            net.poll(None, &mut events);
            if let Some(ready) = events.iter().find(|ready| ready.socket == id) {
                return ready.read_on;
            }
        }
    }

    #[test]
    fn a_socket_that_is_connected_to_itself_is_not_connected() {
        let (socket, address) = socket();
        socket.connect(&address.into()).unwrap();
        let socket = nonblocking(socket);
        let result = handshake(&socket);
        assert!(matches!(result, Err(ConnectionError::ConnectedToItself)), "{result:?}");
        drop(socket);
        // The port is free for the server at once, even for one that does not ask for reuse.
        let server = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        server.bind(&address.into()).unwrap();
    }

    #[test]
    fn a_socket_with_another_as_its_peer_is_connected_and_kept_alive() {
        let (mut net, id, _peer) = connected();
        poll_for(&mut net, id);
        assert!(matches!(net.handshake(id), Ok(Handshake::Connected)));
        let socket = SockRef::from(net.socket(id).unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(20));
        #[cfg(not(target_os = "openbsd"))]
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(5));
        #[cfg(not(target_os = "openbsd"))]
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    }

    #[test]
    fn a_socket_that_was_never_connected_is_not_yet() {
        let (socket, _) = socket();
        assert!(matches!(handshake(&nonblocking(socket)), Ok(Handshake::Pending)));
    }

    #[test]
    fn a_refused_socket_has_failed() {
        // Bound, so that nobody else is, and not listening.
        let (_socket, address) = socket();
        let mut net = Net::new(Poller::new().unwrap(), None, StopHandle::new(vec![]));
        let result = net.connect(SocketId(0), address).and_then(|()| {
            poll_for(&mut net, SocketId(0));
            net.handshake(SocketId(0))
        });
        assert!(matches!(result, Err(ConnectionError::Refused)), "{result:?}");
    }

    #[test]
    fn a_connection_that_was_reset_before_it_was_looked_at_was_connected_and_is_read_to_its_end() {
        let (mut net, id, mut peer) = connected();
        peer.write_all(b"6\n12\n").unwrap();
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        while !poll_for(&mut net, id) {}
        let result = net.handshake(id);
        let Ok(Handshake::Lost(ConnectionError::Io(error))) = result else { panic!("{result:?}") };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let mut buf = [0; 100];
        assert_eq!(net.read(id, &mut buf).unwrap(), 5);
        assert_eq!(net.read(id, &mut buf).unwrap(), 0, "the error was told");
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn an_urgent_byte_stays_in_its_place_and_the_poll_says_to_read_on() {
        let (mut net, id, mut peer) = connected();
        poll_for(&mut net, id);
        assert!(matches!(net.handshake(id), Ok(Handshake::Connected)));
        peer.write_all(b"126").unwrap();
        SockRef::from(&peer).send_out_of_band(b"\n").unwrap();
        peer.write_all(b"12\n").unwrap();
        while !poll_for(&mut net, id) {}
        let mut read: Vec<u8> = Vec::new();
        let mut buf = [0; 100];
        while read.len() < 7 {
            match net.read(id, &mut buf) {
                Ok(len) => read.extend(&buf[..len]),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    poll_for(&mut net, id);
                }
            }
        }
        assert_eq!(read, b"126\n12\n");
    }

    #[test]
    fn a_poll_with_a_moment_in_the_past_does_not_wait_and_mentions_each_event_once() {
        let (mut net, id, _peer) = connected();
        poll_for(&mut net, id);
        let mut events = vec![Ready { socket: id, read_on: true }];
        assert_eq!(net.poll(Some(0), &mut events), Polled::Complete);
        assert_eq!(events, []);
    }

    #[test]
    fn a_closed_socket_is_gone_and_its_number_can_be_used_again() {
        let (mut net, id, peer) = connected();
        net.close(id);
        net.close(id);
        net.close(SocketId(99));
        assert!(matches!(net.handshake(id), Ok(Handshake::Pending)));
        assert_eq!(net.read(id, &mut [0]).unwrap_err().kind(), io::ErrorKind::NotConnected);
        net.connect(id, peer.local_addr().unwrap()).unwrap();
    }
}
