//! Accepts clients and moves their bytes, on a thread of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread::JoinHandle;
use std::time::Instant as Clock;

use log::{debug, error, info, warn};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::Pages;
use super::connection::Connection;
use super::request::{MAX_HEAD, Query};
use super::response::{Response, Status};
use crate::proto::time::{Duration, Instant};
use crate::reserve;
use crate::threads;

/// The most connections. A scraper, a supervisor and some browsers need about ten.
const MAX_CONNECTIONS: usize = 64;

/// The most bytes of unsent responses, beside one response of any length. It bounds clients that do not read.
const MAX_UNSENT: usize = 32 * 1024 * 1024;

/// The length of a response that is sent whatever else is unsent: those on health are shorter.
const SMALL: usize = 4096;

/// The most reads, answers and writes of a connection in one turn, so that no client delays the others.
const STEPS_PER_TURN: usize = 8;

/// The most connections that are accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;

/// The delay before the next accept when the system has no descriptor for it.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The token of the listener. The token of a client is its index.
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// An address on which the server listens. Clients wait until it [starts](Self::start).
#[derive(Debug)]
pub struct Bound {
    poll: Poll,
    listener: TcpListener,
    waker: Arc<Waker>,
    address: SocketAddr,
}

impl Bound {
    /// Listens on an address. With port 0 the system selects a port.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses the address or a descriptor. The error names the address and the remedy.
    pub fn new(address: SocketAddr) -> io::Result<Bound> {
        Bound::open(address).map_err(|error| {
            let remedy = remedy(&error);
            let message =
                format!("cannot listen on {address} for --status-addr, {remedy}: {error}");
            io::Error::new(error.kind(), message)
        })
    }

    fn open(address: SocketAddr) -> io::Result<Bound> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let address = listener.local_addr()?;
        Ok(Bound { poll, listener, waker, address })
    }

    /// Returns the address, with the port that the system has selected.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves these pages until the result is dropped.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses the thread.
    pub fn start(self, pages: impl Pages + Send + 'static) -> io::Result<StatusServer> {
        let Bound { poll, listener, waker, address } = self;
        let is_over = Arc::new(AtomicBool::new(false));
        let server = Server::new(poll, listener, pages, Arc::clone(&is_over));
        let thread = threads::spawn("status", move || server.run())?;
        if !address.ip().is_loopback() {
            warn!("The status on {address} is open to other hosts, without a password");
        }
        info!("Status on http://{address}/");
        Ok(StatusServer { waker, is_over, thread: Some(thread) })
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => "end the program that listens there, or select another port",
        ErrorKind::AddrNotAvailable => "select an address of this machine, such as 127.0.0.1",
        ErrorKind::PermissionDenied => "select a port of at least 1024",
        _ => "select another address",
    }
}

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct StatusServer {
    waker: Arc<Waker>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for StatusServer {
    fn drop(&mut self) {
        self.is_over.store(true, Release);
        // Without a wake-up the thread would not end, and the end of the program must not wait for it.
        if self.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            // The message of a panic is on stderr, and the job does not depend on the thread.
            _ = thread.join();
        }
    }
}

struct Server<P> {
    poll: Poll,
    listener: TcpListener,
    clients: [Option<Client>; MAX_CONNECTIONS],
    /// The time of the next accept, if one is due. Otherwise an event announces the next connection.
    accept_at: Option<Instant>,
    pages: P,
    epoch: Clock,
    is_over: Arc<AtomicBool>,
}

struct Client {
    socket: TcpStream,
    connection: Connection,
    /// Whether the socket may be readable or writable. Events announce only changes.
    is_ready: bool,
    is_shut_down: bool,
}

impl<P: Pages> Server<P> {
    fn new(poll: Poll, listener: TcpListener, pages: P, is_over: Arc<AtomicBool>) -> Server<P> {
        let clients = [const { None }; MAX_CONNECTIONS];
        Server { poll, listener, clients, accept_at: None, pages, epoch: Clock::now(), is_over }
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(2 * MAX_CONNECTIONS);
        while !self.is_over.load(Acquire) {
            let elapsed = self.epoch.elapsed();
            let tick = self.pages.tick(elapsed).map(|at| at.saturating_sub(elapsed));
            let timeout = self.timeout().map(std::time::Duration::from);
            let timeout = timeout.into_iter().chain(tick).min();
            if let Err(error) = self.poll.poll(&mut events, timeout) {
                if error.kind() == ErrorKind::Interrupted {
                    continue;
                }
                error!("The status server has ended: {error}");
                return;
            }
            let now = self.now();
            for event in &events {
                match event.token() {
                    LISTENER => self.accept_at = Some(now),
                    WAKER => {}
                    Token(index) => {
                        // An event of an earlier client of this index causes a step without effect.
                        if let Some(client) = self.clients.get_mut(index).and_then(Option::as_mut) {
                            client.is_ready = true;
                        }
                    }
                }
            }
            // Bytes that have arrived count before deadlines that have passed meanwhile.
            for index in 0..MAX_CONNECTIONS {
                self.turn(index, now);
            }
            if self.accept_at.is_some_and(|at| at <= now) {
                self.accept(now);
            }
            for index in 0..MAX_CONNECTIONS {
                self.expire(index, now);
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::from_elapsed(self.epoch.elapsed())
    }

    /// Returns the time until the next turn is due without an event. Without clients there is none.
    fn timeout(&self) -> Option<Duration> {
        let clients = || self.clients.iter().flatten();
        if clients().any(|client| client.is_ready) {
            return Some(Duration::ZERO);
        }
        let deadlines = clients().filter_map(|client| client.connection.deadline());
        let next = deadlines.chain(self.accept_at).min()?;
        Some(next.saturating_duration_since(self.now()))
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((socket, _)) => self.admit(socket, now),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {
                        self.accept_at = None;
                        return;
                    }
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    // The connections that wait cause no further event.
                    _ if self.close_idle(now).is_none() => {
                        debug!("No connection to the status server can be accepted: {error}");
                        self.accept_at = Some(now + ACCEPT_PAUSE);
                        return;
                    }
                    _ => {}
                },
            }
        }
    }

    /// Makes a client of a new connection, in place of the one that is idle for the longest time if there are too many.
    fn admit(&mut self, mut socket: TcpStream, now: Instant) {
        // Beside the last descriptors there is no place for another client either. A client that has one of them, in
        // place of another, has left a smaller number free. That one does not mean that there is place.
        let sockets = self.clients.iter().flatten().map(|client| &client.socket);
        let is_scarce = sockets.chain([&socket]).any(reserve::is_kept_from_clients);
        let free = self.clients.iter().position(Option::is_none).filter(|_| !is_scarce);
        let Some(index) = free.or_else(|| self.close_idle(now)) else {
            let response = Response::text(Status::ServiceUnavailable, "too many connections\n");
            let response = response.with_header("Retry-After", "5");
            // The buffer of a new socket takes it whole. The client may be gone.
            _ = socket.write(&response.encode(Some("close"), true));
            _ = socket.shutdown(Shutdown::Write);
            // A socket that is closed with unread bytes is reset, and the client may lose the response.
            _ = socket.read(&mut [0; MAX_HEAD]);
            return;
        };
        // Without it, a response may wait for the acknowledgment of the one before.
        _ = socket.set_nodelay(true);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut socket, Token(index), interest).is_err() {
            return;
        }
        let connection = Connection::new(now);
        self.clients[index] =
            Some(Client { socket, connection, is_ready: true, is_shut_down: false });
        // A client whose request has arrived is not idle, and keeps its place.
        self.turn(index, now);
    }

    /// Closes the connection that is idle for the longest time. Returns its index, which is free then.
    fn close_idle(&mut self, now: Instant) -> Option<usize> {
        for _ in 0..MAX_CONNECTIONS {
            let idle = self.clients.iter().enumerate().filter_map(|(index, client)| {
                Some((client.as_ref()?.connection.idle_since()?, index))
            });
            let (since, index) = idle.min()?;
            // A request that arrived after the last poll has caused no event yet. Its client is not idle.
            if let Some(client) = &mut self.clients[index] {
                client.is_ready = true;
            }
            self.turn(index, now);
            match &self.clients[index] {
                Some(client) if client.connection.idle_since() != Some(since) => {}
                Some(_) => {
                    self.close(index);
                    return Some(index);
                }
                None => return Some(index),
            }
        }
        None
    }

    fn close(&mut self, index: usize) {
        let Some(mut client) = self.clients[index].take() else { return };
        // Closing the socket is enough on most systems. mio requires this call on all of them.
        _ = self.poll.registry().deregister(&mut client.socket);
    }

    /// Moves the bytes of a client that is ready.
    fn turn(&mut self, index: usize, now: Instant) {
        for _ in 0..STEPS_PER_TURN {
            let unsent: usize = self.clients.iter().flatten().map(Client::unsent).sum();
            let Some(client) = &mut self.clients[index] else { return };
            if !client.is_ready {
                return;
            }
            let pages = Bounded { pages: &self.pages, unsent };
            if client.step(&pages, now).is_err() || client.connection.is_closed() {
                self.close(index);
            }
        }
    }

    fn expire(&mut self, index: usize, now: Instant) {
        let Some(client) = &mut self.clients[index] else { return };
        if client.connection.deadline().is_some_and(|deadline| deadline <= now) {
            client.connection.expire(now);
            // There may be a response to send.
            client.is_ready = true;
            self.turn(index, now);
        }
    }
}

impl Client {
    fn unsent(&self) -> usize {
        self.connection.unsent().len()
    }

    /// Does one write, answer or read. Fails if the connection is lost.
    fn step(&mut self, pages: &impl Pages, now: Instant) -> io::Result<()> {
        let connection = &mut self.connection;
        let done = if !connection.unsent().is_empty() {
            self.socket.write(connection.unsent()).map(|len| connection.sent(len, now))
        } else if connection.answer(pages, now) || connection.is_closed() {
            Ok(())
        } else {
            if connection.is_closing() && !self.is_shut_down {
                self.is_shut_down = true;
                self.socket.shutdown(Shutdown::Write)?;
            }
            let mut buffer = [0; MAX_HEAD];
            match connection.room() {
                // The client has sent its end, and all that came before is answered.
                0 => Err(ErrorKind::WouldBlock.into()),
                room => self.socket.read(&mut buffer[..room]).map(|len| match len {
                    0 => connection.received_end(),
                    len => connection.received(&buffer[..len], now),
                }),
            }
        };
        match done {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.is_ready = false;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            done => done,
        }
    }
}

/// The pages while so many bytes are unsent.
struct Bounded<'a, P> {
    pages: &'a P,
    unsent: usize,
}

impl<P: Pages> Pages for Bounded<'_, P> {
    fn respond(&self, path: &str, query: &Query) -> Response {
        let response = self.pages.respond(path, query);
        let len = response.body.len();
        if len <= SMALL || self.unsent == 0 || self.unsent + len <= MAX_UNSENT {
            return response;
        }
        Response::text(Status::ServiceUnavailable, "too many responses are unsent\n")
            .with_header("Retry-After", "10")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Long(usize);

    impl Pages for Long {
        fn respond(&self, _path: &str, _query: &Query) -> Response {
            Response::text(Status::Ok, vec![b'.'; self.0])
        }
    }

    #[test]
    fn a_client_whose_request_has_caused_no_event_yet_is_not_idle() {
        let bound = Bound::new("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = bound.address();
        let connect = || std::net::TcpStream::connect(address).unwrap();
        let mut server = Server::new(bound.poll, bound.listener, Long(1), Arc::default());
        let now = Instant::from_elapsed(std::time::Duration::ZERO);
        let clients: Vec<_> = (0..MAX_CONNECTIONS).map(|_| connect()).collect();
        server.accept(now);
        for mut client in &clients {
            client.write_all(b"GET / HT").unwrap();
        }
        let mut another = connect();
        server.accept(now);
        assert_eq!(server.clients.iter().flatten().count(), MAX_CONNECTIONS);
        drop(server);
        let mut text = String::new();
        another.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    }

    #[test]
    fn at_most_32_mib_are_unsent_beside_one_response_and_short_ones() {
        let status = |len, unsent| {
            Bounded { pages: &Long(len), unsent }.respond("/", &Query::default()).status
        };
        assert_eq!(status(MAX_UNSENT + 1, 0), Status::Ok);
        assert_eq!(status(MAX_UNSENT - 1, 1), Status::Ok);
        assert_eq!(status(MAX_UNSENT, 1), Status::ServiceUnavailable);
        assert_eq!(status(SMALL, usize::MAX), Status::Ok);
        assert_eq!(status(SMALL + 1, MAX_UNSENT), Status::ServiceUnavailable);
    }
}
