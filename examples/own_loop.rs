//! Drives the core with a loop of one's own, without mio and without threads.
//!
//! The core decides, and asks its driver for everything else through `Io`: time, readiness, sockets, lookups.
//! This driver has nothing but the standard library. It asks each socket in turn instead of waiting for
//! readiness, which costs time but needs no poll. The core is in `internals`: any release may change it.
//!
//! ```text
//! cargo run --example own_loop -- localhost:8001
//! ```

use std::collections::{HashMap, VecDeque};
use std::env;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use tcpcore::internals::proto::connection_error::ConnectionError;
use tcpcore::internals::proto::fleet::Fleet;
use tcpcore::internals::proto::link::Sink;
use tcpcore::internals::proto::link_id::LinkId;
use tcpcore::internals::proto::policy::Policy;
use tcpcore::internals::proto::socket_id::SocketId;
use tcpcore::internals::proto::time::Instant;
use tcpcore::internals::proto::worker::{Handshake, Io, Polled, Ready, Worker};
use tcpcore::{Config, Counters, Server};

/// The sleep between two looks at all sockets.
const PAUSE: Duration = Duration::from_millis(5);

/// A driver of the core: sockets of the standard library.
struct OwnLoop {
    start: std::time::Instant,
    sockets: HashMap<SocketId, TcpStream>,
    answers: VecDeque<Answer>,
}

type Answer = (LinkId, io::Result<Vec<SocketAddr>>);

impl Io for OwnLoop {
    // Readiness is a guess here, so only a read that would block says that nothing is left.
    const SHORT_READ_MEANS_DRAINED: bool = false;

    fn is_stopped(&self) -> bool {
        false
    }

    fn now(&mut self) -> Instant {
        Instant::from_elapsed(self.start.elapsed())
    }

    fn poll(&mut self, until: Option<Instant>, events: &mut Vec<Ready>) -> Polled {
        let now = self.now();
        if self.answers.is_empty() && until.is_none_or(|until| now < until) {
            let left = until.map_or(PAUSE, |until| (until - now).into());
            thread::sleep(left.min(PAUSE));
        }
        // It may mention sockets that have nothing.
        events.clear();
        events.extend(self.sockets.keys().map(|&socket| Ready { socket, read_on: true }));
        Polled::Complete
    }

    fn connect(&mut self, socket: SocketId, address: SocketAddr) -> Result<(), ConnectionError> {
        // The standard library connects while the caller waits.
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_nonblocking(true)?;
        self.sockets.insert(socket, stream);
        Ok(())
    }

    fn handshake(&mut self, _: SocketId) -> Result<Handshake, ConnectionError> {
        Ok(Handshake::Connected)
    }

    fn read(&mut self, socket: SocketId, buf: &mut [u8]) -> io::Result<usize> {
        let stream = self.sockets.get_mut(&socket).ok_or(io::ErrorKind::NotConnected)?;
        stream.read(buf)
    }

    fn close(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
    }

    fn resolve(&mut self, id: LinkId, server: &Server) {
        let addresses = server.address().to_socket_addrs().map(Iterator::collect);
        self.answers.push_back((id, addresses));
    }

    fn answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }
}

/// Writes each number as it comes.
struct Lines<W>(W);

impl<W: Write> Sink<i64> for Lines<W> {
    fn room(&mut self, _: usize) -> usize {
        usize::MAX
    }

    fn begin(&mut self, _server: usize) {}

    fn push(&mut self, numbers: &[i64]) {
        for number in numbers {
            writeln!(self.0, "{number}").expect("the output takes all lines");
        }
    }

    fn publish(&mut self) {}

    fn wait_for_room(&mut self) -> bool {
        false
    }
}

/// Reads each server once, to its end. Returns what was done, and how many servers ended badly.
fn collect(servers: Vec<Server>, output: impl Write) -> Result<(Counters, usize), Box<dyn Error>> {
    let config = Config::builder().servers(servers).once(true).build()?;
    let decoder = config.number_decoder()?;
    let (worker_index, seed, now) = (0, 1, Instant::ZERO);
    let policy = Policy::from(&config);
    let mut fleet = Fleet::new(worker_index, policy, decoder, Box::new(()), seed, now);
    for (index, server) in config.servers().iter().enumerate() {
        fleet.add(index, server.clone(), now);
    }
    let start = std::time::Instant::now();
    let mut driver = OwnLoop { start, sockets: HashMap::new(), answers: VecDeque::new() };
    Ok(Worker::new(fleet, Lines(output), now).run(&mut driver))
}

fn main() -> Result<(), Box<dyn Error>> {
    let servers = env::args().skip(1).map(|argument| argument.parse());
    collect(servers.collect::<Result<_, _>>()?, io::stdout())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::net::TcpListener;

    #[test]
    fn the_core_reads_servers_to_their_ends_by_a_loop_without_readiness() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let feed = thread::spawn(move || {
            for text in [&b"1\n6\n7\n12\n"[..], b"18\nx\n"] {
                listener.accept().unwrap().0.write_all(text).unwrap();
            }
        });
        let server = |host: &str| format!("{host}:{port}").parse().unwrap();
        let mut output = Vec::new();
        let (counters, failed) =
            collect(vec![server("127.0.0.1"), server("localhost")], &mut output).unwrap();
        feed.join().unwrap();
        let mut numbers: Vec<&str> = std::str::from_utf8(&output).unwrap().lines().collect();
        numbers.sort_unstable();
        assert_eq!(numbers, ["12", "18", "6"]);
        assert_eq!((counters.lines, counters.malformed, failed), (6, 1, 0));
    }

    #[test]
    fn a_server_that_is_down_ends_badly() {
        // A port that is bound and not listened on refuses connections.
        let down = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        down.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = down.local_addr().unwrap().as_socket().unwrap();
        let server = address.to_string().parse().unwrap();
        let (counters, failed) = collect(vec![server], Vec::new()).unwrap();
        assert_eq!((counters.connects, counters.failures, failed), (0, 1, 1));
    }
}
