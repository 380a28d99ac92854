//! Transports: the kinds of connections.

mod tcp;

use std::fmt::Debug;
use std::io::{self, Read};
use std::net::SocketAddr;

use mio::event::Source;

use crate::proto::connection_error::ConnectionError;
use crate::proto::worker::Handshake;

pub(crate) use tcp::Tcp;

/// A connection, or one that is being made. It is nonblocking, and its readiness is edge-triggered.
pub(crate) trait Transport: Read + Debug + Sized {
    /// Whether a read that returns less than it was asked for means that all was read, unless the poll says
    /// otherwise.
    const SHORT_READ_MEANS_DRAINED: bool;

    /// Opens a socket and begins to connect it.
    ///
    /// # Errors
    /// If the system refuses.
    fn connect(address: SocketAddr) -> io::Result<Self>;

    /// Returns the socket to poll.
    fn source(&mut self) -> &mut impl Source;

    /// Looks how far it is connected.
    ///
    /// # Errors
    /// If it could not be connected.
    fn handshake(&mut self) -> Result<Handshake, ConnectionError>;
}
