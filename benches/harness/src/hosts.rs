//! Runs many servers that accept and send nothing, each at an address of its own, in a process of its own. Lines on its
//! stdin ask it to wait for connections. It ends with its stdin, and so with the harness.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::Result;
use crate::process::Process;

/// The name of the subcommand.
pub const COMMAND: &str = "hosts";

/// Listening ports. With this many, no listener's queue runs out.
const LISTENERS: usize = 16;

/// Connections that a listener may queue. Linux allows no more by default.
const BACKLOG: i32 = 4096;

/// The token of the waker. Those of the listeners come first, and then those of the connections.
const WAKER: Token = Token(usize::MAX);

/// The harness's side of the servers.
pub struct Hosts {
    /// Dropped first: the process ends with its stdin.
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    ports: Vec<u16>,
    _process: Process,
}

impl Hosts {
    pub fn start() -> Result<Hosts> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(COMMAND).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command)?;
        let stdin = process.child().stdin.take().expect("it is piped");
        let stdout = BufReader::new(process.child().stdout.take().expect("it is piped"));
        let mut hosts = Hosts { stdin, stdout, ports: Vec::new(), _process: process };
        let ports = hosts.reply()?;
        hosts.ports =
            ports.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?;
        Ok(hosts)
    }

    /// Returns `count` addresses, each another one.
    pub fn addresses(&self, count: usize) -> Vec<String> {
        // Every address of the loopback network is a host of its own.
        let hosts = (1_u32..).map(|host| Ipv4Addr::from_bits(0x7F01_0000 + host));
        let addresses = hosts.flat_map(|host| self.ports.iter().map(move |port| (host, *port)));
        addresses.take(count).map(|address| SocketAddr::from(address).to_string()).collect()
    }

    /// Waits until this many connections were accepted, and this many closed.
    pub fn wait(&mut self, accepted: usize, closed: usize) -> Result<()> {
        writeln!(self.stdin, "{accepted} {closed}")?;
        self.reply().map(drop)
    }

    fn reply(&mut self) -> Result<String> {
        let mut reply = String::new();
        self.stdout.read_line(&mut reply)?;
        if reply.is_empty() { Err("the servers have ended".into()) } else { Ok(reply) }
    }
}

/// Runs the servers until stdin ends.
pub fn serve() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let mut poll = Poll::new()?;
    let mut listeners = Vec::new();
    for index in 0..LISTENERS {
        let mut listener = listen()?;
        poll.registry().register(&mut listener, Token(index), Interest::READABLE)?;
        listeners.push(listener);
    }
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port().to_string()));
    println!("{}", ports.collect::<io::Result<Vec<_>>>()?.join(" "));
    let asked = questions(Waker::new(poll.registry(), WAKER)?);

    let mut events = Events::with_capacity(1024);
    let mut connections: Vec<Option<TcpStream>> = Vec::new();
    let (mut free, mut accepted, mut closed) = (Vec::new(), 0, 0);
    let mut question = None;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                WAKER => {}
                Token(index) if index < LISTENERS => {
                    while let Ok((mut stream, _)) = listeners[index].accept() {
                        let place = free.pop().unwrap_or(connections.len());
                        let token = Token(LISTENERS + place);
                        poll.registry().register(&mut stream, token, Interest::READABLE)?;
                        if place == connections.len() {
                            connections.push(None);
                        }
                        connections[place] = Some(stream);
                        accepted += 1;
                    }
                }
                Token(token) => {
                    let place = token - LISTENERS;
                    let Some(stream) = &mut connections[place] else { continue };
                    // The other side sends nothing, so it has closed.
                    if !matches!(stream.read(&mut [0; 1]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
                    {
                        connections[place] = None;
                        free.push(place);
                        closed += 1;
                    }
                }
            }
        }
        loop {
            match asked.try_recv() {
                Ok(asked) => question = Some(asked),
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
            }
        }
        if question.is_some_and(|(its, gone)| accepted >= its && closed >= gone) {
            question = None;
            println!("done");
        }
    }
}

/// Listens on all addresses of loopback, and on no other interface.
fn listen() -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind_device(Some(b"lo"))?;
    socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Reads the numbers of connections to wait for from stdin.
fn questions(waker: Waker) -> Receiver<(usize, usize)> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(io::Result::ok) {
            let numbers = line.split_once(' ');
            let numbers = numbers.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            let Some(numbers) = numbers else { break };
            if sender.send(numbers).is_err() || waker.wake().is_err() {
                return;
            }
        }
        drop(sender);
        _ = waker.wake();
    });
    receiver
}
