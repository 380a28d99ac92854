//! Numbers of sockets.

/// The number of a socket of a worker. It is small, and is used again after the socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub usize);
