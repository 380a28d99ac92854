//! Names of a zone whose name server does not answer, beside names that are found at once.
//!
//! Each test runs itself a second time in a network of its own, with a `resolv.conf`, a hosts file and a
//! name server of its own.
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

/// Set for a test that runs in its own network.
const INSIDE: &str = "TCPCORE_TEST_INSIDE";

/// Where the name server listens. Port 53 is free in a network of one's own.
const NAME_SERVER: &str = "127.0.0.53";

/// A name server that is down: nothing of it comes back, not even a refusal.
const DEAD_NAME_SERVER: &str = "127.0.0.54";

/// Runs `body`, which is the whole of this module's test `name`, in a network of its own, where the
/// system's resolver asks these name `servers` with these `options`.
fn isolated(name: &str, servers: &[&str], options: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return body();
    }
    let etc = Etc::new(name, servers, options);
    if !etc.shell(":").output().is_ok_and(|output| output.status.success()) {
        return skip("no network and files of its own to be had");
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

/// The files that the system's resolver reads, to be mounted over those of the system.
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

    /// A shell that sees these files, and runs `script` in a network in which loopback is up.
    fn shell(&self, script: &str) -> Command {
        // Where there is no such file, nothing reads it. A cache of names would answer from outside.
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

/// A name server that knows every name to be on loopback, but leaves the zone `hung` unanswered.
struct NameServer {
    socket: UdpSocket,
    /// The queries for names in that zone.
    hung: Receiver<Hung>,
}

/// A query that was not answered.
struct Hung {
    name: String,
    /// The answer that there is no such name, and for whom it is.
    denial: Vec<u8>,
    client: SocketAddr,
}

impl NameServer {
    fn start() -> NameServer {
        let socket = UdpSocket::bind((NAME_SERVER, 53)).unwrap();
        // For hundreds of queries at once. The system may grant less, and queries are repeated.
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

    /// The next query that is left unanswered.
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
    /// With a dot after each label.
    name: String,
    /// Name, type and class, as they came.
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
        // A response; one question, `count` answers.
        let header = [0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
        // The name of the question, type A, class IN, to be kept for 0 s, and four bytes of address.
        let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1];
        let record = &record[..record.len() * usize::from(count)];
        [self.id, &header, self.question, record].concat()
    }
}

/// So many servers in the zone that is not answered for.
fn hung_servers(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("name{number}.zone.hung:1"))
}

#[test]
fn names_that_hang_do_not_hold_up_those_after_them() {
    let name = "names_that_hang_do_not_hold_up_those_after_them";
    isolated(name, &[NAME_SERVER], "timeout:30", || {
        let _name_server = NameServer::start();
        let server = Server::bind();
        let good = ["good1", "good2", "good3", "good4", "feed.test"];
        let good = good.map(|name| format!("{name}:{}", server.port()));
        // No attempt ends but by the system's resolver.
        let mut program =
            start("-p 2 --connect-timeout 1h", hung_servers(300).chain(good.iter().cloned()));
        for server in &good {
            program.wait_for_log(&format!("Connected successfully to {server}"));
        }
        let is_failure = |line: &&String| line.contains("name not resolved");
        assert_eq!(program.log().iter().find(is_failure), None, "a name was given up before");
    });
}

#[test]
fn a_lost_server_is_looked_up_at_once_beside_all_names_that_hang() {
    const HUNG: usize = 600;
    /// So many lookups of names that hung last time may be under way.
    const AT_ONCE: usize = 500;
    let name = "a_lost_server_is_looked_up_at_once_beside_all_names_that_hang";
    // It asks again after 5 s, should a query be lost.
    isolated(name, &[NAME_SERVER], "timeout:5 attempts:5", || {
        let name_server = NameServer::start();
        let server = Server::bind();
        let good = format!("feed.test:{}", server.port());
        let flags = "--connect-timeout 1h --initial-backoff 10ms --max-backoff 10ms";
        let mut program = start(flags, [good.clone()].into_iter().chain(hung_servers(HUNG)));
        let peer = server.accept();
        program.wait_for_log(&format!("Connected successfully to {good}"));
        deny_after_a_while(&name_server, HUNG);
        // Now they are known to hang, and are looked up again.
        let deadline = Instant::now() + DEADLINE;
        let mut again = HashSet::new();
        while again.len() < AT_ONCE {
            again.insert(name_server.next_hung(deadline).name);
        }
        peer.close();
        program.wait_for_log(&format!("Connection lost to {good}"));
        program.wait_for_log(&format!("Connected successfully to {good}"));
        let mut others = name_server.hung.try_iter().filter(|hung| !again.contains(&hung.name));
        assert!(others.next().is_none(), "more names are looked up at once than there should be");
    });
}

#[test]
fn an_answer_that_comes_after_its_attempt_has_failed_serves_the_next_one() {
    let name = "an_answer_that_comes_after_its_attempt_has_failed_serves_the_next_one";
    // Each lookup takes a second, and each attempt may take less.
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
fn lookups_that_hang_leave_descriptors_to_the_connections() {
    let name = "lookups_that_hang_leave_descriptors_to_the_connections";
    isolated(name, &[NAME_SERVER], "timeout:30", || {
        let name_server = NameServer::start();
        let servers: Vec<Server> = (0..20).map(|_| Server::bind()).collect();
        let addresses = servers.iter().map(|server| server.address().to_string());
        let flags = "-p 2 --connect-timeout 1h --initial-backoff 10ms --max-backoff 10ms";
        let program = tcpcore(flags, hung_servers(300).chain(addresses));
        // A quarter of these may be lookups, and three quarters of that names never seen before.
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
        assert!(names.is_subset(&hung), "more names are looked up at once than there should be");
        program.signal(Signal::TERM);
        program.wait_exit();
        drop(peers);
        assert!(!program.log().iter().any(|line| line.contains("Too many open files")));
    });
}

/// Waits until `names` names are looked up, and denies them after so long that they count as slow.
fn deny_after_a_while(name_server: &NameServer, names: usize) {
    let deadline = Instant::now() + DEADLINE;
    let mut queries = HashMap::new();
    // Two for each name, for addresses of either kind.
    while queries.len() < 2 * names {
        let hung = name_server.next_hung(deadline);
        queries.insert(hung.denial, hung.client);
    }
    // What is tested is the time itself; more of it than this changes nothing.
    thread::sleep(Duration::from_millis(1100));
    name_server.hung.try_iter().for_each(drop);
    for (denial, client) in queries {
        name_server.socket.send_to(&denial, client).unwrap();
    }
}
