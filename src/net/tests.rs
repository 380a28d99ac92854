use super::*;
use crate::codec::Lines;
use crate::config::Config;
use crate::proto::fleet::Fleet;
use crate::proto::link::Sink;
use crate::proto::policy::Policy;
use crate::proto::worker::Worker;
use mio::event::Source;
use mio::net::TcpStream;
use socket2::{Domain, SockRef, Socket, Type};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

fn socket() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn nonblocking(socket: Socket) -> Tcp {
    socket.set_nonblocking(true).unwrap();
    Tcp(TcpStream::from_std(socket.into()))
}

/// Returns a worker's I/O with a connection, and the other end of the connection.
fn connected() -> (Net<Tcp>, SocketId, std::net::TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let stop = StopHandle::new(vec![]);
    let mut net: Net<Tcp> = net(stop);
    let id = SocketId(3);
    net.connect(id, listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    (net, id, peer)
}

/// Polls until the socket has been mentioned, and returns whether to read on.
fn poll_for(net: &mut Net<Tcp>, id: SocketId) -> bool {
    let mut events = Vec::new();
    loop {
        net.poll(None, &mut events);
        if let Some(ready) = events.iter().find(|ready| ready.socket == id) {
            return ready.read_on;
        }
    }
}

/// The I/O of a worker whose list does not change.
fn net<T: Transport>(stop: StopHandle) -> Net<T> {
    let (_, changes) = mpsc::channel();
    Net::new(Poller::new().unwrap(), None, changes, stop, std::time::Instant::now())
}

#[test]
fn a_poll_without_events_ends_at_its_moment() {
    let mut net: Net<Tcp> = net(StopHandle::new(vec![]));
    let until = net.now() + crate::proto::time::Duration::from_millis(20);
    let mut events = Vec::new();
    while matches!(net.poll(Some(until), &mut events), Polled::Interrupted) {}
    assert!(events.is_empty() && net.now() >= until);
}

#[test]
fn a_poll_says_whether_there_may_be_more_events() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut net: Net<Tcp> = net(StopHandle::new(vec![]));
    for number in 0..=EVENTS_PER_POLL {
        net.connect(SocketId(number), listener.local_addr().unwrap()).unwrap();
    }
    // A connection that was accepted is also writable at its other end.
    let _peers: Vec<_> = (0..=EVENTS_PER_POLL).map(|_| listener.accept().unwrap()).collect();
    let mut events = Vec::new();
    assert!(matches!(net.poll(None, &mut events), Polled::Full));
    assert_eq!(events.len(), EVENTS_PER_POLL);
    assert!(matches!(net.poll(None, &mut events), Polled::Complete));
    assert_eq!(events.len(), 1);
}

#[test]
fn the_answer_to_a_lookup_wakes_the_worker_and_has_the_port_of_the_server() {
    let (_, changes) = mpsc::channel();
    let resolver = Arc::new(Resolver::start().unwrap());
    let stop = StopHandle::new(vec![]);
    let epoch = std::time::Instant::now();
    let mut net: Net<Tcp> = Net::new(Poller::new().unwrap(), Some(resolver), changes, stop, epoch);
    let id = LinkId::unpack(7);
    assert!(net.answer().is_none());
    net.resolve(id, &"localhost:9000".parse().unwrap());
    let (answered, answer) = loop {
        net.poll(None, &mut Vec::new());
        if let Some(answer) = net.answer() {
            break answer;
        }
    };
    let addresses = answer.unwrap();
    assert_eq!(answered, id);
    assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 9000));
    assert!(!addresses.is_empty());
}

#[test]
fn a_short_read_of_ordinary_data_leaves_nothing_unread() {
    let (mut net, id, mut peer) = connected();
    poll_for(&mut net, id);
    peer.write_all(b"6\n").unwrap();
    assert!(!poll_for(&mut net, id));
}

#[test]
fn a_worker_is_stopped_once_its_handle_says_so() {
    let stop = StopHandle::new(vec![]);
    let net: Net<Tcp> = net(stop.clone());
    assert!(!net.is_stopped());
    stop.stop();
    assert!(net.is_stopped());
}

#[test]
fn a_socket_that_is_connected_to_itself_is_not_connected() {
    let (socket, address) = socket();
    socket.connect(&address.into()).unwrap();
    let mut socket = nonblocking(socket);
    let result = socket.handshake();
    assert!(matches!(result, Err(ConnectionError::ConnectedToItself)), "{result:?}");
    drop(socket);
    // The port is free immediately, even for a server that does not ask for reuse.
    let server = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    server.bind(&address.into()).unwrap();
}

#[test]
fn a_socket_with_another_as_its_peer_is_connected_and_kept_alive() {
    let (mut net, id, _peer) = connected();
    poll_for(&mut net, id);
    assert!(matches!(net.handshake(id), Ok(Handshake::Connected)));
    let socket = SockRef::from(&net.socket(id).unwrap().0);
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
    assert!(matches!(nonblocking(socket).handshake(), Ok(Handshake::Pending)));
}

#[test]
fn a_refused_socket_has_failed() {
    // It is bound, so that no other socket is, and does not listen.
    let (_socket, address) = socket();
    let mut net: Net<Tcp> = net(StopHandle::new(vec![]));
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
    assert_eq!(net.read(id, &mut buf).unwrap(), 0, "the error was reported before");
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
    assert_eq!(net.poll(Some(Instant::ZERO), &mut events), Polled::Complete);
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

/// A transport whose reads return three bytes at most.
#[derive(Debug)]
struct ShortReads(Tcp);

impl Transport for ShortReads {
    const SHORT_READ_MEANS_DRAINED: bool = false;

    fn connect(address: SocketAddr) -> io::Result<ShortReads> {
        Tcp::connect(address).map(ShortReads)
    }
    fn source(&mut self) -> &mut impl Source {
        self.0.source()
    }
    fn handshake(&mut self) -> Result<Handshake, ConnectionError> {
        self.0.handshake()
    }
}

impl Read for ShortReads {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(3);
        self.0.read(&mut buf[..len])
    }
}

/// A sink with room for everything.
#[derive(Clone, Debug, Default)]
struct Bytes(Rc<RefCell<Vec<u8>>>);

impl Sink<u8> for Bytes {
    fn room(&mut self, _: usize) -> usize {
        usize::MAX / 4
    }
    fn begin(&mut self, server: usize) {
        assert_eq!(server, 7);
    }
    fn push(&mut self, records: &[u8]) {
        self.0.borrow_mut().extend_from_slice(records);
    }
    fn publish(&mut self) {}
    fn wait_for_room(&mut self) -> bool {
        false
    }
}

#[test]
fn a_worker_reads_all_lines_over_a_transport_whose_short_reads_do_not_mean_drained() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let server: Server = listener.local_addr().unwrap().to_string().parse().unwrap();
    let text = b"temp=23.5\r\n\nhumidity=40\n";
    let (is_read, wait) = mpsc::channel();
    let feed = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(text).unwrap();
        // The end of the connection would make the worker read on.
        wait.recv_timeout(Duration::from_secs(60)).is_ok()
    });
    let config = Config::builder().servers([server.clone()]).once(true).build().unwrap();
    let decoder = Lines::new(config.framing());
    let mut fleet = Fleet::new(0, Policy::from(&config), decoder, Box::new(()), 1, Instant::ZERO);
    fleet.add(7, server, Instant::ZERO);
    let mut net = net::<ShortReads>(StopHandle::new(vec![]));
    let sink = Bytes::default();
    let mut worker = Worker::new(fleet, sink.clone(), Instant::ZERO);
    while sink.0.borrow().len() < text.len() {
        assert!(worker.turn(&mut net).is_continue());
    }
    is_read.send(()).unwrap();
    assert!(feed.join().unwrap(), "the lines were read before the connection ended");
    let (counters, failed) = worker.run(&mut net);
    assert_eq!((counters.lines, failed), (3, 0));
    assert_eq!(*sink.0.borrow(), text);
}
