//! Runs the servers in a process of their own, so that their processor time and descriptors do not count.
//! Lines on its stdin control it. It ends with its stdin, and so with the harness.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::Result;
use crate::payload::{Lines, Payload, Sum};
use crate::process::Process;

/// The name of the subcommand.
pub const COMMAND: &str = "load";

/// Bytes of one write to a connection. They fit in the processor's cache.
const WRITE_SIZE: usize = 1024 * 1024;

/// Bytes that a flood repeats. Each of thousands of connections has its own position in them.
const FLOOD_SIZE: usize = 256 * 1024;

/// Bytes of a flooded connection's send buffer. The limit keeps thousands of them from using up the memory.
const FLOOD_BUFFER: usize = 64 * 1024;

/// Connections that a listener may queue. Linux allows no more by default.
const BACKLOG: i32 = 4096;

/// The harness's side of the load server.
pub struct Load {
    /// Dropped first: the process ends with its stdin.
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    addresses: Vec<SocketAddr>,
    _process: Process,
}

/// The amount that was sent, and the sum of the numbers to be printed.
pub struct Sent {
    pub bytes: u64,
    pub lines: u64,
    pub sum: Sum,
}

impl Load {
    /// Starts servers on this many ports.
    pub fn start(listeners: usize) -> Result<Load> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(COMMAND).arg(listeners.to_string());
        let mut process = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let stdin = process.child().stdin.take().expect("it is piped");
        let stdout = BufReader::new(process.child().stdout.take().expect("it is piped"));
        let mut load = Load { stdin, stdout, addresses: Vec::new(), _process: process };
        load.addresses = numbers(&load.reply()?)?
            .into_iter()
            .map(|port: u16| (Ipv4Addr::LOCALHOST, port).into())
            .collect();
        Ok(load)
    }

    /// Returns `count` addresses to connect to, spread over the ports.
    pub fn addresses(&self, count: usize) -> impl Iterator<Item = String> {
        self.addresses.iter().cycle().take(count).map(SocketAddr::to_string)
    }

    /// Starts to accept `count` connections. Each gets the same share of about `bytes` bytes as fast as it
    /// takes them, and is closed. [`sent`](Self::sent) waits for the end.
    pub fn stream(&mut self, count: usize, payload: Payload, bytes: u64) -> Result<()> {
        self.command(format_args!("stream {count} {} {bytes}", payload.name()))
    }

    /// Waits for the end of a stream, and returns the amount that was sent.
    pub fn sent(&mut self) -> Result<Sent> {
        let reply = numbers(&self.reply()?)?;
        let &[bytes, lines, count, total] = &reply[..] else { return Err("a bad reply".into()) };
        Ok(Sent { bytes, lines, sum: Sum { count, total } })
    }

    /// Starts to accept connections until there are `count`. [`done`](Self::done) waits for the end.
    pub fn accept(&mut self, count: usize) -> Result<()> {
        self.command(format_args!("accept {count}"))
    }

    /// Starts `count` sweeps, one per `period`. A sweep sends one line to each connection in turn.
    pub fn sweep(&mut self, count: u64, period: Duration) -> Result<()> {
        self.command(format_args!("sweep {count} {}", period.as_micros()))
    }

    /// Starts to send `count` lines, one per `interval`, each to the next connection.
    pub fn spaced(&mut self, count: u64, interval: Duration) -> Result<()> {
        self.command(format_args!("spaced {count} {}", interval.as_micros()))
    }

    /// Starts to keep every connection full, until the other side has closed them all. [`done`](Self::done)
    /// waits for the end.
    pub fn flood(&mut self) -> Result<()> {
        self.command(format_args!("flood"))
    }

    /// Closes the listeners and all connections.
    pub fn vanish(&mut self) -> Result<()> {
        self.command(format_args!("vanish"))?;
        self.done().map(drop)
    }

    /// Listens again, on the same ports.
    pub fn listen(&mut self) -> Result<()> {
        self.command(format_args!("listen"))?;
        self.done().map(drop)
    }

    /// Waits until the last command is done, and returns the time that it took.
    pub fn done(&mut self) -> Result<Duration> {
        let nanos = numbers(&self.reply()?)?;
        Ok(Duration::from_nanos(*nanos.first().ok_or("a bad reply")?))
    }

    fn command(&mut self, command: fmt::Arguments) -> Result<()> {
        writeln!(self.stdin, "{command}")?;
        Ok(())
    }

    fn reply(&mut self) -> Result<String> {
        let mut reply = String::new();
        self.stdout.read_line(&mut reply)?;
        if reply.is_empty() { Err("the load server has ended".into()) } else { Ok(reply) }
    }
}

fn numbers<T: FromStr>(text: &str) -> Result<Vec<T>>
where
    T::Err: std::error::Error + 'static,
{
    Ok(text.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?)
}

/// A port that refuses connections: it is bound, so that no other socket gets it, and not listening.
pub struct ClosedPort(Socket);

impl ClosedPort {
    pub fn bind() -> Result<ClosedPort> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
        Ok(ClosedPort(socket))
    }

    pub fn address(&self) -> Result<String> {
        let address = self.0.local_addr()?.as_socket().ok_or("a socket has no address")?;
        Ok(address.to_string())
    }
}

/// Runs the load server until its stdin ends.
pub fn serve(listeners: usize) -> Result<()> {
    let mut server =
        Server { listeners: Vec::new(), ports: vec![0; listeners], connections: Vec::new() };
    server.listen()?;
    reply(&server.ports)?;
    // Lines of one kind are made once only.
    let mut made: Option<(Payload, Lines)> = None;
    let mut small = Payload::Short.numbers().map(|number| format!("{number}\n"));
    for line in io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let started = Instant::now();
        match words[..] {
            ["stream", count, payload, bytes] => {
                let payload = Payload::named(payload).ok_or("no such payload")?;
                let lines = match made.take() {
                    Some((its, lines)) if its == payload => lines,
                    _ => payload.lines(WRITE_SIZE),
                };
                let sent = server.stream(count.parse()?, &lines, bytes.parse()?)?;
                made = Some((payload, lines));
                reply(&[sent.bytes, sent.lines, sent.sum.count, sent.sum.total])?;
                continue;
            }
            ["accept", count] => server.accept(count.parse()?)?,
            ["sweep", count, micros] => {
                let period = Duration::from_micros(micros.parse()?);
                for n in 0..count.parse::<u32>()? {
                    sleep_until(started + period * n);
                    for (mut connection, line) in server.connections.iter().zip(&mut small) {
                        connection.write_all(line.as_bytes())?;
                    }
                }
            }
            ["spaced", count, micros] => {
                let interval = Duration::from_micros(micros.parse()?);
                let turns = server.connections.iter().cycle().zip(&mut small);
                for (n, (mut connection, line)) in (0..count.parse::<u32>()?).zip(turns) {
                    // Sleeping is too coarse for this.
                    while started.elapsed() < interval * n {
                        std::hint::spin_loop();
                    }
                    connection.write_all(line.as_bytes())?;
                }
            }
            ["flood"] => server.flood(&Payload::Short.lines(FLOOD_SIZE))?,
            ["vanish"] => {
                server.listeners.clear();
                server.connections.clear();
            }
            ["listen"] => server.listen()?,
            _ => return Err(format!("no such command: {line}").into()),
        }
        reply(&[started.elapsed().as_nanos()])?;
    }
    Ok(())
}

struct Server {
    listeners: Vec<TcpListener>,
    /// The ports of the listeners; 0 before they are bound for the first time.
    ports: Vec<u16>,
    connections: Vec<TcpStream>,
}

impl Server {
    fn listen(&mut self) -> Result<()> {
        for port in &mut self.ports {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))))?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            let listener = TcpListener::from(socket);
            *port = listener.local_addr()?.port();
            self.listeners.push(listener);
        }
        Ok(())
    }

    fn accept(&mut self, count: usize) -> Result<()> {
        while self.connections.len() < count {
            let mut ready: Vec<_> =
                self.listeners.iter().map(|l| PollFd::new(l, PollFlags::IN)).collect();
            poll(&mut ready, None)?;
            for listener in &self.listeners {
                while self.connections.len() < count {
                    match listener.accept() {
                        Ok((connection, _)) => {
                            connection.set_nodelay(true)?;
                            self.connections.push(connection);
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(())
    }

    fn stream(&mut self, count: usize, lines: &Lines, bytes: u64) -> Result<Sent> {
        self.connections.clear();
        self.accept(count)?;
        let count = count as u64;
        let size = lines.text.len() as u64;
        let times = bytes.div_ceil(count * size);
        thread::scope(|scope| {
            let writers: Vec<_> = self
                .connections
                .drain(..)
                .map(|connection| scope.spawn(move || write(connection, &lines.text, times)))
                .collect();
            writers.into_iter().try_for_each(|writer| writer.join().expect("it does not panic"))
        })?;
        let times = times * count;
        Ok(Sent { bytes: size * times, lines: lines.count * times, sum: lines.sum.times(times) })
    }

    /// Keeps all connections full until the other side has closed them.
    fn flood(&mut self, lines: &Lines) -> Result<()> {
        let mut poll = Poll::new()?;
        let mut connections = Vec::new();
        for connection in self.connections.drain(..) {
            SockRef::from(&connection).set_send_buffer_size(FLOOD_BUFFER)?;
            connection.set_nonblocking(true)?;
            let mut stream = mio::net::TcpStream::from_std(connection);
            let token = Token(connections.len());
            poll.registry().register(&mut stream, token, Interest::WRITABLE)?;
            connections.push(Some(Flooded { stream, at: 0 }));
        }
        let mut events = Events::with_capacity(1024);
        let mut open = connections.len();
        while open > 0 {
            poll.poll(&mut events, None)?;
            for event in &events {
                let slot = &mut connections[event.token().0];
                if slot.as_mut().is_some_and(|connection| !connection.fill(&lines.text)) {
                    *slot = None;
                    open -= 1;
                }
            }
        }
        Ok(())
    }
}

/// A connection that is kept full.
struct Flooded {
    stream: mio::net::TcpStream,
    /// The index in the text at which the next write starts.
    at: usize,
}

impl Flooded {
    /// Writes until the connection is full. Returns `false` if it is closed.
    fn fill(&mut self, text: &[u8]) -> bool {
        loop {
            match self.stream.write(&text[self.at..]) {
                Ok(len) => self.at = (self.at + len) % text.len(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}

fn write(mut connection: TcpStream, text: &[u8], times: u64) -> io::Result<()> {
    (0..times).try_for_each(|_| connection.write_all(text))
}

fn reply<T: ToString>(numbers: &[T]) -> Result<()> {
    let words: Vec<String> = numbers.iter().map(T::to_string).collect();
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", words.join(" "))?;
    stdout.flush()?;
    Ok(())
}

fn sleep_until(time: Instant) {
    thread::sleep(time.saturating_duration_since(Instant::now()));
}
