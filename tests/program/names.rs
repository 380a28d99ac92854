//! Tests lookups in a zone whose name server does not answer, beside lookups that succeed at once.
//!
//! Each test runs itself a second time in a network namespace, with its own `resolv.conf`, hosts file and
//! name server.
#![cfg(target_os = "linux")]

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use crate::common::{DEADLINE, Peer, Program, Server, Signal};
use crate::{by_shell, skip, start, tcpcore};

/// The variable that is set for a test in its own network namespace.
const INSIDE: &str = "TCPCORE_TEST_INSIDE";

/// The address of the name server. Port 53 is free in a new network namespace.
const NAME_SERVER: &str = "127.0.0.53";

/// The address of a name server that never answers, not even with a refusal.
const DEAD_NAME_SERVER: &str = "127.0.0.54";

/// Runs `body`, the whole of this module's test `name`, in a network namespace. There the system's resolver
/// uses these name `servers` and `options`.
fn isolated(name: &str, servers: &[&str], options: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return body();
    }
    let etc = Etc::new(name, servers, options);
    if !etc.shell(":").output().is_ok_and(|output| output.status.success()) {
        return skip("cannot create network and mount namespaces");
    }
    let mut inside = etc.shell("exec \"$@\"");
    inside.arg(env::current_exe().unwrap());
    inside.args([&format!("names::{name}"), "--exact", "--nocapture"]);
    let output = inside.env(INSIDE, "1").output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    let has_passed = output.status.success() && text[0].contains("1 passed");
    assert!(has_passed, "{}: {}{}", output.status, text[0], text[1]);
}

/// Files for the system's resolver, which are mounted over those of the system.
struct Etc(PathBuf);

impl Etc {
    fn new(name: &str, servers: &[&str], options: &str) -> Etc {
        let folder = format!("etc-{}-{name}", process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
        fs::create_dir(&folder).unwrap();
        let servers: String =
            servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        let resolv = format!("{servers}options {options}\n");
        fs::write(folder.join("resolv.conf"), resolv).unwrap();
        fs::write(folder.join("nsswitch.conf"), "hosts: files dns\n").unwrap();
        fs::write(folder.join("hosts"), "127.0.0.1 localhost good1 good2 good3 good4\n").unwrap();
        Etc(folder)
    }

    /// Returns a shell that runs `script` with these files, in a network where loopback is up.
    fn shell(&self, script: &str) -> Command {
        // A file that the system does not have is not used. The cache of nscd would answer from outside.
        let setup = "cd \"$0\"
            for file in *; do [ ! -e /etc/$file ] || mount --bind $file /etc/$file; done
            [ ! -d /var/run/nscd ] || mount -t tmpfs none /var/run/nscd
            ip link set lo up";
        let mut command = Program::command("unshare");
        command.args(["--map-root-user", "--net", "--mount", "sh", "-ec"]);
        command.arg(format!("{setup}\n{script}")).arg(&self.0);
        command
    }
}

impl Drop for Etc {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// A name server that resolves every name to loopback, but does not answer for the zone `hung`.
struct NameServer {
    socket: UdpSocket,
    /// The queries for names in that zone.
    hung: Receiver<Hung>,
}

/// An unanswered query.
struct Hung {
    name: String,
    /// The answer that the name does not exist.
    denial: Vec<u8>,
    client: SocketAddr,
}

impl NameServer {
    fn start() -> NameServer {
        let socket = UdpSocket::bind((NAME_SERVER, 53)).unwrap();
        // The buffer is for hundreds of queries at once. The system may grant less, but lost queries are
        // repeated.
        socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
        let (sender, hung) = mpsc::channel();
        let server = NameServer { socket: socket.try_clone().unwrap(), hung };
        thread::spawn(move || {
            let mut buffer = [0; 512];
            loop {
                let (len, client) = socket.recv_from(&mut buffer).unwrap();
                let query = Query::parse(&buffer[..len]);
                if query.name.contains(".hung.") {
                    let denial = query.answer(NO_SUCH_NAME);
                    _ = sender.send(Hung { name: query.name, denial, client });
                } else {
                    socket.send_to(&query.answer(NO_ERROR), client).unwrap();
                }
            }
        });
        server
    }

    /// Returns the next unanswered query.
    fn next_hung(&self, deadline: Instant) -> Hung {
        let left = deadline.saturating_duration_since(Instant::now());
        self.hung.recv_timeout(left).expect("too few names are looked up")
    }
}

/// Response codes (RFC 1035, 4.1.1).
const NO_ERROR: u8 = 0;
const NO_SUCH_NAME: u8 = 3;

/// A query for the addresses of a name (RFC 1035, 4.1).
struct Query<'a> {
    id: &'a [u8],
    /// The name, with a dot after each label.
    name: String,
    /// Name, type and class, as received.
    question: &'a [u8],
}

impl Query<'_> {
    fn parse(message: &[u8]) -> Query<'_> {
        const HEADER: usize = 12;
        let mut name = String::new();
        let mut at = HEADER;
        while message[at] > 0 {
            let label = &message[at + 1..][..usize::from(message[at])];
            name += &format!("{}.", String::from_utf8_lossy(label));
            at += 1 + label.len();
        }
        Query { id: &message[..2], name, question: &message[HEADER..at + 5] }
    }

    fn answer(&self, code: u8) -> Vec<u8> {
        let is_for_ipv4 = self.question.ends_with(&[0, 1, 0, 1]);
        let count = u8::from(is_for_ipv4 && code == NO_ERROR);
        // A response with one question and `count` answers.
        let header = [0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
        // The name of the question, type A, class IN, a time to live of 0 s, and the four bytes of the
        // address.
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1];
        let record = &record[..record.len() * usize::from(count)];
        [self.id, &header, self.question, record].concat()
    }
}

/// Returns `count` servers in the unanswered zone.
fn hung_servers(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("name{number}.zone.hung:1"))
}

#[test]
fn hanging_lookups_do_not_delay_later_ones() {
    let name = "hanging_lookups_do_not_delay_later_ones";
    isolated(name, &[NAME_SERVER], "timeout:30", || {
        let _name_server = NameServer::start();
        let server = Server::bind();
        let good = ["good1", "good2", "good3", "good4", "feed.test"];
        let good = good.map(|name| format!("{name}:{}", server.port()));
        // Only the system's resolver ends an attempt.
        let mut program =
            start("-p 2 --connect-timeout 1h", hung_servers(300).chain(good.iter().cloned()));
        for server in &good {
            program.wait_for_log(&format!("Connected successfully to {server}"));
        }
        let is_failure = |line: &&String| line.contains("name not resolved");
        assert_eq!(program.log().iter().find(is_failure), None, "a lookup failed before");
    });
}

#[test]
fn a_lost_server_is_looked_up_at_once_beside_hanging_lookups() {
    const HUNG: usize = 600;
    /// The most concurrent lookups of names that hung last time.
    const AT_ONCE: usize = 500;
    let name = "a_lost_server_is_looked_up_at_once_beside_hanging_lookups";
    // The resolver repeats a lost query after 5 s.
    isolated(name, &[NAME_SERVER], "timeout:5 attempts:5", || {
        let name_server = NameServer::start();
        let server = Server::bind();
        let good = format!("feed.test:{}", server.port());
        let flags = "--connect-timeout 1h --initial-backoff 10ms --max-backoff 10ms";
        let mut program = start(flags, [good.clone()].into_iter().chain(hung_servers(HUNG)));
        let peer = server.accept();
        program.wait_for_log(&format!("Connected successfully to {good}"));
        deny_after_a_while(&name_server, HUNG);
        // Now the names are known to hang, and are looked up again.
        let deadline = Instant::now() + DEADLINE;
        let mut again = HashSet::new();
        while again.len() < AT_ONCE {
            again.insert(name_server.next_hung(deadline).name);
        }
        peer.close();
        program.wait_for_log(&format!("Connection lost to {good}"));
        program.wait_for_log(&format!("Connected successfully to {good}"));
        let mut others = name_server.hung.try_iter().filter(|hung| !again.contains(&hung.name));
        assert!(others.next().is_none(), "too many concurrent lookups");
    });
}

#[test]
fn an_answer_after_the_failure_of_its_attempt_serves_the_next_attempt() {
    let name = "an_answer_after_the_failure_of_its_attempt_serves_the_next_attempt";
    // Each lookup takes a second, which is longer than an attempt may take.
    isolated(name, &[DEAD_NAME_SERVER, NAME_SERVER], "timeout:1", || {
        let _dead = UdpSocket::bind((DEAD_NAME_SERVER, 53)).unwrap();
        let _name_server = NameServer::start();
        let server = Server::bind();
        let feed = format!("feed.test:{}", server.port());
        let mut program = start("--connect-timeout 500ms --initial-backoff 2s", [&feed]);
        program.wait_for_log("name not resolved: no answer in time");
        program.wait_for_log(&format!("Connected successfully to {feed} after 1 failure"));
    });
}

#[test]
fn hanging_lookups_leave_descriptors_to_the_connections() {
    let name = "hanging_lookups_leave_descriptors_to_the_connections";
    isolated(name, &[NAME_SERVER], "timeout:30", || {
        let name_server = NameServer::start();
        let servers: Vec<Server> = (0..20).map(|_| Server::bind()).collect();
        let addresses = servers.iter().map(|server| server.address().to_string());
        let flags = "-p 2 --connect-timeout 1h --initial-backoff 10ms --max-backoff 10ms";
        let program = tcpcore(flags, hung_servers(300).chain(addresses));
        // A quarter of these descriptors may be lookups, and three quarters of that may be new names.
        let mut program = Program::spawn(&mut by_shell("ulimit -n 128;", &program));
        let peers: Vec<_> = servers.iter().map(Server::accept).collect();
        let deadline = Instant::now() + DEADLINE;
        let mut hung = HashSet::new();
        while hung.len() < 28 {
            hung.insert(name_server.next_hung(deadline).name);
        }
        peers.into_iter().for_each(Peer::close);
        let peers: Vec<_> = servers.iter().map(Server::accept).collect();
        let names = name_server.hung.try_iter().map(|hung| hung.name).collect::<HashSet<_>>();
        assert!(names.is_subset(&hung), "too many concurrent lookups");
        program.signal(Signal::TERM);
        program.wait_exit();
        drop(peers);
        assert!(!program.log().iter().any(|line| line.contains("Too many open files")));
    });
}

/// Waits until `names` names are looked up, then denies them late enough that they count as slow.
fn deny_after_a_while(name_server: &NameServer, names: usize) {
    let deadline = Instant::now() + DEADLINE;
    let mut queries = HashMap::new();
    // Each name has two queries, one for each kind of address.
    while queries.len() < 2 * names {
        let hung = name_server.next_hung(deadline);
        queries.insert(hung.denial, hung.client);
    }
    // The time itself is tested. A longer wait changes nothing.
    thread::sleep(Duration::from_millis(1100));
    name_server.hung.try_iter().for_each(drop);
    for (denial, client) in queries {
        name_server.socket.send_to(&denial, client).unwrap();
    }
}
