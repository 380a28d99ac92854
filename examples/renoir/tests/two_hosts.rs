//! Runs the program as two hosts of Renoir, which are two processes, with servers on loopback.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::iter;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

/// The longest time for anything that a test waits for, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn each_server_has_one_owner_and_the_union_of_all_is_exact() {
    const NUMBERS: i64 = 1000;
    let ports = [(); 7].map(|()| Port::reserve());
    let listeners = ports.each_ref().map(Port::listen);
    let mut hosts = start([2, 1], &["--once"], &ports);
    let feeds: Vec<_> = (0i64..)
        .zip(listeners)
        .map(|(server, listener)| {
            thread::spawn(move || {
                // The number tells its server.
                let numbers = (0..NUMBERS).map(|number| server * NUMBERS + number);
                let text: String = numbers.map(|number| format!("{number}\n")).collect();
                accept(&listener).write_all(text.as_bytes()).unwrap();
                listener
            })
        })
        .collect();
    let listeners: Vec<_> = feeds.into_iter().map(|feed| feed.join().unwrap()).collect();
    let [printed, nothing] = hosts.each_mut().map(|host| host.numbers().collect::<Vec<_>>());
    for host in &mut hosts {
        assert_eq!(host.wait().code(), Some(0), "{:?}", host.log);
    }

    let expected: Vec<_> = (0..7 * NUMBERS).filter(|number| number % 6 == 0).collect();
    assert_eq!(sorted(printed), expected);
    assert_eq!(nothing, [], "host 0 alone prints");
    for listener in listeners {
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    let [first, second] = hosts;
    for (host, part) in [
        (&first, "Replica index 0 out of 3 reads 3 of 7 servers"),
        (&first, "Replica index 1 out of 3 reads 2 of 7 servers"),
        (&second, "Replica index 2 out of 3 reads 2 of 7 servers"),
    ] {
        assert!(host.has_logged(part), "{:?}", host.log);
    }
}

#[test]
fn a_server_that_dies_and_comes_back_is_read_again_and_a_signal_ends_both_hosts() {
    let ports = [(); 2].map(|()| Port::reserve());
    let (steady, mortal) = (ports[0].listen(), ports[1].listen());
    let [mut first, mut second] = start([1, 1], &[], &ports);
    let mut printed = first.numbers();
    let (mut steady, mut peer) = (accept(&steady), accept(&mortal));
    // The last line is cut off.
    peer.write_all(b"6\n7\n12\n18").unwrap();
    assert_eq!([printed.next(), printed.next()], [Some(6), Some(12)]);
    drop((peer, mortal));
    second.wait_for_log("Connection lost to");
    second.wait_for_log("Connection refused by");
    steady.write_all(b"1\n600\n").unwrap();
    assert_eq!(printed.next(), Some(600), "the other server is read meanwhile");
    let reborn = ports[1].listen();
    accept(&reborn).write_all(b"5\n24\n").unwrap();
    assert_eq!(printed.next(), Some(24));
    for host in [&mut first, &mut second] {
        kill_process(host.pid(), Signal::TERM).unwrap();
    }
    assert_eq!(printed.next(), None);
    assert_eq!(first.wait().code(), Some(0), "{:?}", first.log);
    assert_eq!(second.wait().code(), Some(0), "{:?}", second.log);
}

#[test]
fn a_stalled_reader_of_host_0_holds_back_the_server_of_host_1_and_nothing_is_lost() {
    let ports = [(); 2].map(|()| Port::reserve());
    let (silent, flooding) = (ports[0].listen(), ports[1].listen());
    let [mut first, mut second] = start([1, 1], &["--once"], &ports);
    let (silent, mut peer) = (accept(&silent), accept(&flooding));
    peer.set_nonblocking(true).unwrap();
    let line = |index: usize| format!("{:018}\n", index * 6);
    let mut sent = 0;
    let mut pending = Vec::new();
    // A stalled machine can look like a server that is held back. Stopping too early does no harm.
    while is_writable(&peer, Duration::from_secs(1)) {
        // The buffers on the way hold less than half as much.
        assert!(sent < 4 << 20, "the server was not held back");
        if pending.is_empty() {
            pending = (sent..sent + 2048).flat_map(|index| line(index).into_bytes()).collect();
            sent += 2048;
        }
        let taken = peer.write(&pending).unwrap();
        pending.drain(..taken);
    }
    let printed = first.numbers();
    peer.set_nonblocking(false).unwrap();
    let rest = thread::spawn(move || peer.write_all(&pending));
    drop(silent);
    let mut expected = (0i64..).step_by(6);
    let count = printed.inspect(|number| assert_eq!(Some(*number), expected.next())).count();
    assert_eq!(count, sent);
    rest.join().unwrap().unwrap();
    // A server that sends nothing before it closes is no failure.
    assert_eq!(first.wait().code(), Some(0), "{:?}", first.log);
    assert_eq!(second.wait().code(), Some(0), "{:?}", second.log);
}

#[test]
fn the_loss_of_host_0_ends_host_1_with_an_error() {
    let ports = [(); 2].map(|()| Port::reserve());
    let (silent, sending) = (ports[0].listen(), ports[1].listen());
    let [mut first, mut second] = start([1, 1], &[], &ports);
    let (_silent, mut peer) = (accept(&silent), accept(&sending));
    peer.write_all(b"6\n").unwrap();
    assert_eq!(first.numbers().next(), Some(6));
    first.child.kill().unwrap();
    // Host 1 finds the loss when it sends to host 0, and its end closes the connection.
    let start = Instant::now();
    while peer.write_all(b"12\n").is_ok() {
        assert!(start.elapsed() < DEADLINE, "host 1 reads on: {:?}", second.log);
        thread::yield_now();
    }
    assert!(!second.wait().success(), "{:?}", second.log);
}

#[test]
fn a_server_that_fails_with_once_is_named_and_fails_the_program() {
    let [good, absent] = [(); 2].map(|()| Port::reserve());
    let listener = good.listen();
    let mut command = program();
    command.args(["--once", "--local", "2", &good.to_string(), &absent.to_string()]);
    let mut host = Host::spawn(command);
    accept(&listener).write_all(b"6\n").unwrap();
    assert_eq!(host.numbers().collect::<Vec<_>>(), [6]);
    assert_eq!(host.wait().code(), Some(1));
    assert!(host.has_logged(&format!("Connection refused by {absent}")), "{:?}", host.log);
    assert!(host.has_logged("Replica index 1 out of 2: 1 of 1 servers failed"), "{:?}", host.log);
}

#[test]
fn bad_usage_is_named() {
    for (arguments, named) in [
        (&["localhost:8001"][..], "--local or --hosts is missing"),
        (&["--local", "1"], "no server is given"),
        (&["--local", "0", "localhost:8001"], "cores"),
        (&["--local", "1", "localhost"], "localhost"),
        (&["--hosts", "absent.toml", "localhost:8001"], "No such file"),
        (&["--hosts", "Cargo.toml", "localhost:8001"], "TOML parse error"),
        (&["--hosts", "hosts.toml", "localhost:8001"], "NOIR_HOST_ID"),
    ] {
        let output = program().args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.lines().next().unwrap().contains(named), "{arguments:?}: {text}");
    }
}

/// A port of loopback that nothing else gets, whether a server listens on it or not.
struct Port {
    address: SocketAddr,
    _held: Socket,
}

impl Port {
    fn reserve() -> Port {
        let held = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // A listener, which has this option, too, can bind the port as long as this socket does not listen.
        held.set_reuse_address(true).unwrap();
        held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = held.local_addr().unwrap().as_socket().unwrap();
        Port { address, _held: held }
    }

    fn listen(&self) -> TcpListener {
        let listener = TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

fn accept(listener: &TcpListener) -> TcpStream {
    let timeout = Timespec::try_from(DEADLINE).unwrap();
    let ready = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&timeout)).unwrap();
    assert_eq!(ready, 1, "no connection within {DEADLINE:?}");
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream
}

fn is_writable(stream: &TcpStream, wait: Duration) -> bool {
    let timeout = Timespec::try_from(wait).unwrap();
    poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&timeout)).unwrap() > 0
}

fn sorted(mut numbers: Vec<i64>) -> Vec<i64> {
    numbers.sort_unstable();
    numbers
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcpcore-renoir"));
    command.env_remove("NOIR_HOST_ID");
    command
}

/// Starts two hosts with these numbers of cores. They read the servers on `ports`.
fn start(cores: [usize; 2], flags: &[&str], ports: &[Port]) -> [Host; 2] {
    // Host 0 receives from host 1 on its first port, and host 1 receives nothing.
    let engine = Port::reserve();
    let hosts = cores.map(|cores| {
        let (address, port) = (engine.address.ip(), engine.address.port());
        format!("[[host]]\naddress = \"{address}\"\nbase_port = {port}\nnum_cores = {cores}\n")
    });
    let name = format!("hosts-{}.toml", engine.address.port());
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&file, hosts.concat()).unwrap();
    let servers: Vec<_> = ports.iter().map(Port::to_string).collect();
    let mut hosts = ["0", "1"].map(|index| {
        let mut command = program();
        command.env("NOIR_HOST_ID", index).args(flags).arg("--hosts").arg(&file).args(&servers);
        Host::spawn(command)
    });
    hosts[0].engine = Some(engine);
    hosts
}

/// A process, which does not outlive its test.
struct Host {
    child: Child,
    stdout: Option<ChildStdout>,
    stderr: Receiver<String>,
    log: Vec<String>,
    engine: Option<Port>,
}

impl Host {
    fn spawn(mut command: Command) -> Host {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, stderr) = channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let stdout = child.stdout.take();
        Host { child, stdout, stderr, log: Vec::new(), engine: None }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The numbers that are printed, which are read from now on.
    fn numbers(&mut self) -> impl Iterator<Item = i64> + use<> {
        let lines = BufReader::new(self.stdout.take().unwrap()).lines();
        let (sender, numbers) = channel();
        thread::spawn(move || {
            lines.map(|line| line.unwrap().parse().unwrap()).try_for_each(|n| sender.send(n))
        });
        iter::from_fn(move || match numbers.recv_timeout(DEADLINE) {
            Ok(number) => Some(number),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no number within {DEADLINE:?}"),
        })
    }

    fn wait_for_log(&mut self, text: &str) {
        let start = Instant::now();
        while !self.has_logged(text) {
            let left = DEADLINE.saturating_sub(start.elapsed());
            let line = self.stderr.recv_timeout(left);
            self.log.push(line.unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.log)));
        }
    }

    fn has_logged(&self, text: &str) -> bool {
        self.log.iter().any(|line| line.contains(text))
    }

    /// Waits for the end of the process, with all its log.
    fn wait(&mut self) -> ExitStatus {
        // The log ends with the process.
        let start = Instant::now();
        while let Ok(line) = self.stderr.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
            self.log.push(line);
        }
        assert!(start.elapsed() < DEADLINE, "the process runs on: {:?}", self.log);
        self.child.wait().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
