//! Names of a zone whose name server does not answer, beside names that are found at once.
//!
//! Each test runs itself a second time in a network of its own, with a `resolv.conf`, a hosts file and a
//! name server of its own.
#![cfg(target_os = "linux")]

use std::collections::{HashMap, HashSet};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::{env, fs, process, thread};

use crate::common::{DEADLINE, Program, Server};
use crate::{skip, start};

/// Set for a test that runs in its own network.
const INSIDE: &str = "TCPCORE_TEST_INSIDE";

/// Where the name server listens. Port 53 is free in a network of one's own.
const NAME_SERVER: &str = "127.0.0.53";

/// Runs `body`, which is the whole of this module's test `name`, in a network of its own, where the
/// system's resolver has these `options`.
fn isolated(name: &str, options: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return body();
    }
    let etc = Etc::new(name, options);
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
    fn new(name: &str, options: &str) -> Etc {
        let folder = format!("etc-{}-{name}", process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
        fs::create_dir(&folder).unwrap();
        let resolv = format!("nameserver {NAME_SERVER}\n{options}\n");
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

/// Starts a name server that knows every name to be on loopback, but does not answer for the zone
/// `hung`. Returns those names as it is asked for them.
fn name_server() -> Receiver<String> {
    let socket = UdpSocket::bind((NAME_SERVER, 53)).unwrap();
    let (sender, hung) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        loop {
            let (len, client) = socket.recv_from(&mut buffer).unwrap();
            let query = Query::parse(&buffer[..len]);
            if !query.name.contains(".hung.") {
                socket.send_to(&query.answer(), client).unwrap();
            } else if query.is_for_ipv4() && sender.send(query.name).is_err() {
                return;
            }
        }
    });
    hung
}

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

    fn is_for_ipv4(&self) -> bool {
        self.question.ends_with(&[0, 1, 0, 1])
    }

    fn answer(&self) -> Vec<u8> {
        let count = u8::from(self.is_for_ipv4());
        // A response; one question, `count` answers.
        let header = [0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0];
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
    isolated("names_that_hang_do_not_hold_up_those_after_them", "", || {
        let _hung = name_server();
        let server = Server::bind();
        let good = ["good1", "good2", "good3", "good4", "feed.test"];
        let good = good.map(|name| format!("{name}:{}", server.port()));
        // No attempt ends but by the resolver, which gives a name up after 5 s at least.
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
fn a_lost_server_is_looked_up_at_once_beside_more_names_that_hang_than_may_be_looked_up() {
    const HUNG: usize = 600;
    let name =
        "a_lost_server_is_looked_up_at_once_beside_more_names_that_hang_than_may_be_looked_up";
    // A lookup takes 10 s, and is one query.
    isolated(name, "options timeout:10 attempts:1", || {
        let hung = name_server();
        let server = Server::bind();
        let good = format!("feed.test:{}", server.port());
        let flags = "--connect-timeout 1h --initial-backoff 10ms --max-backoff 10ms";
        let mut program = start(flags, [good.clone()].into_iter().chain(hung_servers(HUNG)));
        let peer = server.accept();
        program.wait_for_log(&format!("Connected successfully to {good}"));
        // They have hung once when they are asked for again; then 500 are looked up at once.
        let mut lookups: HashMap<String, usize> = HashMap::new();
        let mut again = HashSet::new();
        while again.len() < 500 {
            let name = hung.recv_timeout(DEADLINE).unwrap();
            let count = lookups.entry(name.clone()).or_default();
            *count += 1;
            if *count > 1 {
                again.insert(name);
            }
        }
        peer.close();
        program.wait_for_log(&format!("Connection lost to {good}"));
        program.wait_for_log(&format!("Connected successfully to {good}"));
        // As soon as one of the 500 returns, the next name has its turn.
        assert_eq!(hung.try_recv().ok(), None, "a hanging name has returned before");
    });
}
