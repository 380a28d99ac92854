//! Tests with a separate network, disk or resolver. They are in namespaces that end with their processes,
//! so that nothing outside changes.

use std::fs;
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{DEADLINE, Pid, Program, Server};
use crate::ledger::{self, Ledger};
use crate::runner::{Form, Outcome};
use crate::subject::{Chunk, Subject, demo_server, pour, status_kib};

/// Checks the program on a disk that is full after 64 KiB. The error gives the number of records that were
/// read and are not in the file.
pub(crate) fn full_disk(form: Form) -> Outcome {
    let server = Server::bind();
    let command = Subject::command(form.mode, "", &[server.address()]);
    let disk = Folder::new("full-disk");
    let (mut wrapped, place) = if works(&["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"])
    {
        let mut unshare = Program::command("unshare");
        // The disk ends with the shell, so the shell prints the file.
        let script = "mount -t tmpfs -o size=64k none \"$0\" || exit 99
            \"$@\" > \"$0/file\"
            status=$?
            cat \"$0/file\"
            exit $status";
        unshare.args(["-rm", "sh", "-c", script]).arg(&disk.0);
        (unshare, "a disk of 64 KiB")
    } else {
        let mut shell = Program::command("sh");
        shell.args(["-c", "\"$@\" > /dev/full; exit $?", "sh"]);
        (shell, "/dev/full, as no disk can be mounted,")
    };
    let subject = Subject::spawn(wrapped.arg(command.get_program()).args(command.get_args()));
    let mut peer = server.accept();
    let program = only_child(subject.program.pid());
    let peak_kib = || status_kib(&program, "VmHWM");
    let mut most_kib = peak_kib().expect("it waits for numbers");
    thread::spawn(move || pour(peer.stream(), 0, 1));
    // The program ends by itself. The last figure, or one shortly before it, is the peak.
    let start = Instant::now();
    while let Some(kib) = peak_kib() {
        assert!(start.elapsed() < DEADLINE, "it does not end on a full disk");
        most_kib = kib;
        thread::yield_now();
    }
    let mut ledger = Ledger::new(1, form.mode);
    let ended = subject.wait_end(|line| ledger.enter(line), 1, most_kib);
    let error = ended.log.iter().find(|line| line.contains("No space left on device"));
    let error = error.unwrap_or_else(|| panic!("no error: {:#?}", ended.log));
    let (_, lost) = error.split_once("; ").expect("how much was lost");
    let (lost, _) = lost.split_once(" records were read and not printed").expect("as a sentence");
    let lost: u64 = lost.parse().expect("a number");
    assert_eq!(ledger.lines + lost, ended.total("lines"), "written and lost, and read");
    let figures = format!(
        "{place} took {} whole lines, {lost} more were read and reported as lost",
        ledger.lines
    );
    Outcome::Passed(figures, ended.tally())
}

/// Returns the process id of a shell's only child.
fn only_child(shell: Pid) -> String {
    let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
    let children = children.expect("the shell is there");
    assert_eq!(children.split_whitespace().count(), 1, "children of the shell: {children:?}");
    children.trim().into()
}

/// Checks that a server is connected once its name is known, after a time in which it is not.
pub(crate) fn late_name(form: Form) -> Outcome {
    if !works(&["unshare", "-rm", "true"]) {
        return Outcome::Skipped("unshare -rm is missing or not allowed".into());
    }
    // After the eighth failure, only powers of two are logged: the tenth line is the 32nd failure.
    let failures = form.pick(4, 10);
    let etc = Folder::new("late-name");
    // Names come from this file alone, without a request over the network.
    let write = |name: &str, text: &str| fs::write(etc.0.join(name), text).expect("a file of ours");
    write("nsswitch.conf", "hosts: files\n");
    write("hosts", "");
    let server = Server::bind();
    let mut unshare = Program::command("unshare");
    unshare.args(["-rm", "sh", "-c", "mount --bind \"$0\" /etc && exec \"$@\""]).arg(&etc.0);
    let command = Subject::command(form.mode, "--initial-backoff 100ms --max-backoff 500ms", &[]);
    unshare.arg(command.get_program()).args(command.get_args());
    unshare.arg(format!("feed.invalid:{}", server.port()));
    let mut subject = Subject::spawn(&mut unshare);
    for _ in 0..failures {
        subject.program.wait_for_log("name not resolved");
    }
    write("hosts", "127.0.0.1 feed.invalid\n");
    let start = Instant::now();
    let mut peer = server.accept();
    let took = start.elapsed();
    peer.send(ledger::lines(0, 1, 0, 1));
    let mut ledger = Ledger::new(1, form.mode);
    subject.read_until(&mut ledger, |ledger| ledger.lines == 1);
    let ended = subject.stop(|line| ledger.enter(line));
    let figures = format!("unknown at first, connected {took:.1?} after the name was known");
    Outcome::Passed(figures, ended.tally())
}

/// Checks that keepalive detects a network that drops all packets, so that neither side can reach the
/// other.
pub(crate) fn half_open(form: Form) -> Outcome {
    if !(works(&["unshare", "-rn", "true"]) && works(&["nsenter", "-V"]) && works(&["ip", "-V"])) {
        return Outcome::Skipped("unshare -rn, nsenter or ip is missing or not allowed".into());
    }
    let network = match Network::new() {
        Ok(network) => network,
        Err(reason) => return Outcome::Skipped(reason),
    };
    let mut serve = network.server.command(&demo_server());
    serve.args(["--listen", SERVER, "--interval", "100ms", "0"]);
    let mut server = Program::spawn(&mut serve);
    let line = server.wait_for_log("Listening on");
    let (_, address) = line.rsplit_once(' ').expect("the line names an address");
    let command = Subject::command(form.mode, "", &[address.parse().expect("an address")]);
    let mut inside = network.client.command(command.get_program().to_str().expect("a path"));
    let mut subject = Subject::spawn(inside.args(command.get_args()));
    let mut found = Vec::new();
    for _ in 0..form.pick(1, 3) {
        assert_eq!(subject.stdout.read(DEADLINE, |_| {}), Chunk::Some, "no numbers");
        network.drop_packets();
        let start = Instant::now();
        let lost = subject.program.wait_for_log("Connection lost");
        assert!(lost.contains("timed out"), "{lost}");
        let took = start.elapsed();
        assert!((15..45).contains(&took.as_secs()), "keepalive of 35 s took {took:?}");
        found.push(took);
        // These numbers arrived before the network failed.
        while subject.stdout.read(Duration::from_millis(1), |_| {}) == Chunk::Some {}
        network.heal();
    }
    let start = Instant::now();
    assert_eq!(subject.stdout.read(DEADLINE, |_| {}), Chunk::Some, "no numbers any more");
    let back = start.elapsed();
    let ended = subject.stop(|_| {});
    let figures =
        format!("detected in {found:.1?}, numbers again {back:.1?} after the network was back");
    Outcome::Passed(figures, ended.tally())
}

const SERVER: &str = "10.77.0.1";
const CLIENT: &str = "10.77.0.2";

/// Two network namespaces, and a cable between them.
struct Network {
    server: Namespace,
    client: Namespace,
}

impl Network {
    fn new() -> Result<Network, String> {
        let mut unshare = Program::command("unshare");
        unshare.args(["-rn", "sh"]);
        let server = Namespace::hold(unshare)?;
        let mut unshare = server.command("unshare");
        unshare.args(["-n", "sh"]);
        let client = Namespace::hold(unshare)?;
        let peer = client.pid();
        let cable = format!("link add cable type veth peer name cable netns {peer}");
        server.ip(&cable)?;
        for (namespace, address) in [(&server, SERVER), (&client, CLIENT)] {
            namespace.ip(&format!("address add {address}/24 dev cable"))?;
            namespace.ip("link set cable up")?;
        }
        Ok(Network { server, client })
    }

    /// Sends all packets to an unused hardware address, so that they are lost without an error.
    fn drop_packets(&self) {
        let unused = "lladdr 02:00:00:00:00:77 dev cable nud permanent";
        for (namespace, other) in [(&self.server, CLIENT), (&self.client, SERVER)] {
            let dropped = namespace.ip(&format!("neighbour replace {other} {unused}"));
            dropped.expect("the namespace is ours");
        }
    }

    fn heal(&self) {
        for (namespace, other) in [(&self.server, CLIENT), (&self.client, SERVER)] {
            let healed = namespace.ip(&format!("neighbour delete {other} dev cable"));
            healed.expect("the namespace is ours");
        }
    }
}

/// A network namespace, which exists as long as the process that holds it.
struct Namespace(Program);

impl Namespace {
    /// Starts the process that holds the namespace. `shell` is a shell in a new namespace.
    fn hold(mut shell: Command) -> Result<Namespace, String> {
        // The sleep has an end, in case this program is killed.
        let mut holder = Program::spawn(shell.args(["-c", "echo ready; exec sleep 1000"]));
        match holder.next_line() {
            Some(_) => Ok(Namespace(holder)),
            None => Err(format!("no network namespace: {shell:?}")),
        }
    }

    fn pid(&self) -> String {
        self.0.pid().as_raw_nonzero().to_string()
    }

    /// Returns a command in the namespace, with the rights of its owner.
    fn command(&self, program: &str) -> Command {
        let mut command = Program::command("nsenter");
        command.args(["--target", &self.pid(), "--user", "--net", "--preserve-credentials"]);
        command.arg(program);
        command
    }

    fn ip(&self, arguments: &str) -> Result<(), String> {
        let output = self.command("ip").args(arguments.split(' ')).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            other => Err(format!("ip {arguments}: {other:?}")),
        }
    }
}

/// Returns whether this command works here.
fn works(command: &[&str]) -> bool {
    let mut tried = Command::new(command[0]);
    tried.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    tried.status().is_ok_and(|status| status.success())
}

/// A folder that is removed after its scenario.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let name = format!("hostile-{name}-{}", process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a folder of cargo's");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // If this fails, the folder stays in cargo's directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
