//! Numbers of sockets.

/// One socket of a worker. The number is small, and is used again after the socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub usize);
