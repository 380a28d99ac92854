//! Connections over TCP.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use log::warn;
use mio::event::Source;
use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::Transport;
use crate::proto::connection_error::ConnectionError;
use crate::proto::worker::Handshake;

/// Returns the settings that detect a dead peer on a silent connection: a probe after 20 s, then every 5 s. The
/// connection is lost after three unanswered probes. OpenBSD has one setting of the last two for the whole
/// system.
fn keepalive() -> TcpKeepalive {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(20));
    #[cfg(not(target_os = "openbsd"))]
    let keepalive = keepalive.with_interval(Duration::from_secs(5)).with_retries(3);
    keepalive
}

/// Whether the system can poll for priority data (TCP's urgent mark).
const HAS_PRIORITY: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// A TCP socket.
#[derive(Debug)]
pub(crate) struct Tcp(pub(in crate::net) TcpStream);

impl Transport for Tcp {
    /// With epoll, a short read means the same as a read that would block (epoll(7)). The exception is TCP's
    /// urgent mark, at which a read stops early; the poll reports the mark. Later bytes make an event of their
    /// own.
    const SHORT_READ_MEANS_DRAINED: bool = HAS_PRIORITY;

    fn connect(address: SocketAddr) -> io::Result<Tcp> {
        let socket = nonblocking_socket(Domain::for_address(address))?;
        #[cfg(unix)]
        crate::reserve::check_server(&socket)?;
        keep_urgent_data_in_place(&socket);
        match socket.connect(&address.into()) {
            Err(error) if !is_in_progress(&error) => Err(error),
            _ => Ok(Tcp(TcpStream::from_std(socket.into()))),
        }
    }

    fn source(&mut self) -> &mut impl Source {
        &mut self.0
    }

    fn handshake(&mut self) -> Result<Handshake, ConnectionError> {
        handshake(&self.0)
    }
}

impl Read for Tcp {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
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

/// Looks how far a socket is connected. Turns keepalive on if it is.
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
            // An orderly close would keep the server from its own port for a minute. A reset does not. If the
            // system refuses the option, the minute has to pass.
            _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
            Err(ConnectionError::ConnectedToItself)
        }
        Ok(_) => {
            // Not earlier, which saves four system calls for each failed attempt.
            keep_alive(socket);
            Ok(Handshake::Connected)
        }
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(Handshake::Pending),
        Err(error) => Err(error.into()),
    }
}

/// Says whether only an established connection can have this error. The system reports a reset in answer to
/// the first packet as refused, and a reset after the server's end of the stream as a broken pipe.
fn ends_a_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Leaves urgent data in its place in the stream. Without an urgent line feed, its two lines would become one.
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

/// Warns if the system refuses a socket option, as some sandboxes do. One warning is enough, as the system
/// refuses the option again. The connection works without it.
fn warn_once(is_warned: &AtomicBool, set: io::Result<()>, what: impl FnOnce(io::Error) -> String) {
    if let Err(error) = set
        && !is_warned.swap(true, Relaxed)
    {
        warn!("The system refuses {}", what(error));
    }
}
