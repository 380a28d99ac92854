//! Does the I/O of a worker with mio: sockets, readiness, the clock, the answers of the resolver.
//!
//! Besides this folder, only the status server uses mio. [`Io`] states what a worker may rely on. All decisions are
//! in the core.

pub(crate) mod resolver;
mod sink;
mod transport;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use crate::address::{Host, Server};
use crate::net::resolver::Resolver;
use crate::proto::connection_error::ConnectionError;
use crate::proto::link_id::LinkId;
use crate::proto::socket_id::SocketId;
use crate::proto::time::Instant;
use crate::proto::worker::{Change, Handshake, Io, Polled, Ready};
use crate::stop::StopHandle;

pub(crate) use sink::QueueSink;
pub(crate) use transport::Tcp;
use transport::Transport;

/// The token of the waker. The token of a socket is its number.
const WAKER: Token = Token(usize::MAX);

/// The most events that one poll takes from the system. Tests need few to fill it.
const EVENTS_PER_POLL: usize = if cfg!(test) { 8 } else { 1024 };

/// A poll and its waker: the part of a worker's I/O that can fail to start.
#[derive(Debug)]
pub(crate) struct Poller {
    poll: Poll,
    waker: Waker,
}

impl Poller {
    /// Opens the poll.
    ///
    /// # Errors
    /// If the system has no descriptors left.
    pub(crate) fn new() -> io::Result<Poller> {
        let poll = Poll::new()?;
        let waker = Waker(Arc::new(mio::Waker::new(poll.registry(), WAKER)?));
        Ok(Poller { poll, waker })
    }

    /// Returns the waker of the worker.
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
pub(crate) struct Net<T> {
    poll: Poll,
    events: Events,
    /// The open sockets, by number.
    sockets: Vec<Option<T>>,
    lookups: Lookups,
    changes: Receiver<Change>,
    stop: StopHandle,
    epoch: std::time::Instant,
}

/// A worker's access to the resolver.
#[derive(Debug)]
struct Lookups {
    resolver: Option<Arc<Resolver>>,
    inbox: Receiver<Answer>,
    outbox: Sender<Answer>,
    waker: Waker,
}

/// An answer of the resolver: the id of the link and the addresses.
type Answer = (LinkId, io::Result<Vec<SocketAddr>>);

impl<T: Transport> Net<T> {
    /// Makes the I/O of a worker whose time is 0 at `epoch`. It needs a `resolver` if a server has a name.
    pub(crate) fn new(
        poller: Poller,
        resolver: Option<Arc<Resolver>>,
        changes: Receiver<Change>,
        stop: StopHandle,
        epoch: std::time::Instant,
    ) -> Net<T> {
        let (outbox, inbox) = mpsc::channel();
        Net {
            poll: poller.poll,
            events: Events::with_capacity(EVENTS_PER_POLL),
            sockets: Vec::new(),
            lookups: Lookups { resolver, inbox, outbox, waker: poller.waker },
            changes,
            stop,
            epoch,
        }
    }

    fn socket(&mut self, id: SocketId) -> Option<&mut T> {
        self.sockets.get_mut(id.0)?.as_mut()
    }
}

impl<T: Transport> Io for Net<T> {
    const SHORT_READ_MEANS_DRAINED: bool = T::SHORT_READ_MEANS_DRAINED;

    fn is_stopped(&self) -> bool {
        self.stop.is_stopped()
    }

    fn now(&mut self) -> Instant {
        Instant::from_elapsed(self.epoch.elapsed())
    }

    fn poll(&mut self, until: Option<Instant>, events: &mut Vec<Ready>) -> Polled {
        // mio rounds this up to what the system can wait for.
        let timeout = until.map(|at| {
            let at = std::time::Duration::from_millis(at.as_millis());
            at.saturating_sub(self.epoch.elapsed())
        });
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
        let mut socket = T::connect(address)?;
        self.poll.registry().register(socket.source(), Token(id.0), interest())?;
        if id.0 >= self.sockets.len() {
            self.sockets.resize_with(id.0 + 1, || None);
        }
        debug_assert!(self.sockets[id.0].is_none());
        self.sockets[id.0] = Some(socket);
        Ok(())
    }

    fn handshake(&mut self, id: SocketId) -> Result<Handshake, ConnectionError> {
        self.socket(id).map_or(Ok(Handshake::Pending), |socket| socket.handshake())
    }

    fn read(&mut self, id: SocketId, buf: &mut [u8]) -> io::Result<usize> {
        match self.socket(id) {
            Some(socket) => socket.read(buf),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn close(&mut self, id: SocketId) {
        let Some(mut socket) = self.sockets.get_mut(id.0).and_then(Option::take) else { return };
        // Closing the socket is enough on most systems. mio requires this call on all of them.
        _ = self.poll.registry().deregister(socket.source());
    }

    fn resolve(&mut self, id: LinkId, server: &Server) {
        self.lookups.resolve(id, server);
    }

    fn answer(&mut self) -> Option<Answer> {
        self.lookups.inbox.try_recv().ok()
    }

    fn change(&mut self) -> Option<Change> {
        self.changes.try_recv().ok()
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
            // A worker that has ended takes no answers.
            if outbox.send((id, answer)).is_ok() {
                waker.wake();
            }
        });
    }
}

/// Says whether a short read of this socket may leave bytes unread.
fn read_on(event: &Event) -> bool {
    event.is_read_closed() || event.is_error() || event.is_priority()
}

/// The readiness to poll for. Writable means connected; it does not change later, as nothing is written.
fn interest() -> Interest {
    let interest = Interest::READABLE | Interest::WRITABLE;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let interest = interest | Interest::PRIORITY;
    interest
}

#[cfg(test)]
mod tests;
