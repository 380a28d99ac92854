//! Runs the floors: the smallest programs that do only the unavoidable part of a job. Each is a process
//! with a single thread, or with two if its name says so.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;

use mio::{Events, Interest, Poll, Token};

use crate::Result;

/// The names of the subcommands.
pub const READ: &str = "floor-read";
pub const READ_IN_TWO: &str = "floor-read-in-two";
pub const ECHO: &str = "floor-echo";
pub const ECHO_IN_TWO: &str = "floor-echo-in-two";
pub const CONNECT: &str = "floor-connect";

const READ_SIZE: usize = 256 * 1024;

/// Connects to all servers, and passes everything to `what` until the last of them closes.
fn read(servers: &[String], mut what: impl FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut streams = Vec::new();
    for server in servers {
        let stream = TcpStream::connect(server)?;
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(streams.len()), Interest::READABLE)?;
        streams.push(Some(stream));
    }
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; READ_SIZE];
    let mut open = streams.len();
    while open > 0 {
        poll.poll(&mut events, None)?;
        for event in &events {
            let slot = &mut streams[event.token().0];
            while let Some(stream) = slot {
                match stream.read(&mut buffer) {
                    Ok(0) => {
                        *slot = None;
                        open -= 1;
                    }
                    Ok(len) => what(&buffer[..len])?,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(())
}

/// Reads all bytes from the sockets and discards them.
pub fn run_read(servers: &[String]) -> Result<()> {
    read(servers, |_| Ok(()))
}

/// Reads all bytes from the sockets and discards them, with the sockets cut over two threads.
pub fn run_read_in_two(servers: &[String]) -> Result<()> {
    let (first, second) = servers.split_at(servers.len() / 2);
    thread::scope(|scope| {
        let first = scope.spawn(|| run_read(first).map_err(|error| error.to_string()));
        let second = run_read(second);
        first.join().expect("it does not panic")?;
        second
    })
}

/// Reads, converts and writes in one thread, with nothing between a line and stdout.
pub fn run_echo(servers: &[String]) -> Result<()> {
    let mut output = io::stdout().lock();
    convert(servers, |text| {
        output.write_all(text)?;
        output.flush()
    })
}

/// Reads and converts in one thread, and writes in another, with nothing but a channel between them.
pub fn run_echo_in_two(servers: &[String]) -> Result<()> {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut output = io::stdout().lock();
            receiver.iter().try_for_each(|text| {
                output.write_all(&text)?;
                output.flush()
            })
        });
        // The writer's error is the cause if it has ended.
        let read = convert(servers, |text| sender.send(text.to_vec()).map_err(io::Error::other));
        drop(sender);
        writer.join().expect("it does not panic")?;
        read
    })
}

/// Reads from all servers, and passes the text of the multiples of six on. It assumes whole lines, which is true if
/// lines are sent one at a time.
fn convert(servers: &[String], mut what: impl FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
    let mut text = Vec::new();
    let mut digits = itoa::Buffer::new();
    read(servers, |lines| {
        text.clear();
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            let number = line[..line.len() - 1]
                .iter()
                .fold(0_u64, |number, byte| number.wrapping_mul(10) + u64::from(byte & 15));
            if number % 6 == 0 {
                text.extend_from_slice(digits.format(number).as_bytes());
                text.push(b'\n');
            }
        }
        what(&text)
    })
}

/// Connects to each server in turn, and keeps the connections open until its stdin ends. It skips servers
/// that refuse. A line on stdout marks the end of the attempts.
pub fn run_connect(servers: &[String]) -> Result<()> {
    let mut streams = Vec::new();
    for server in servers {
        match TcpStream::connect(server) {
            Ok(stream) => streams.push(stream),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error.into()),
        }
    }
    println!("{}", streams.len());
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
