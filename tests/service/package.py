#!/usr/bin/env python3
"""Installs the Debian package where systemd runs: python3 tests/service/package.py PACKAGE.deb DEBIAN

DEBIAN is the folder of a Debian, which debootstrap makes at the first run. systemd-nspawn boots it with a network of
its own. Its files stay as they are: all changes go to memory. The test installs the package, starts the service and
an instance of the template, reloads the list, upgrades, removes and purges. It needs root, debootstrap,
systemd-nspawn and dpkg-deb. Without one of these, or where no systemd can be booted, it exits with 77, as skipped.
"""

import ctypes
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import steps
from steps import fail, say, skip

DEADLINE_SECONDS = 120
DEBOOTSTRAP_SECONDS = 500
CLONE_NEWNET = 0x40000000
TOOLS = ["debootstrap", "systemd-nspawn", "dpkg-deb", "nsenter", "unshare"]
# The feeds, each with its number.
PORTS = {9001: 6, 9002: 12}

# Whatever the package leaves behind has its name. The package itself is mounted on /packages.
LEFT = "find / -xdev -path /proc -prune -o -path /packages -prune -o -name '*tcpcore*' -print"


def expect(what, found, expected):
    if found != expected:
        fail(f"{what}: {found!r}, expected {expected!r}")
    say(what)


def wait_for(what, attempt):
    return steps.wait_for(what, attempt, DEADLINE_SECONDS)


def make_debian(folder):
    if (folder / "usr/bin/systemctl").exists() and (folder / "made").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    # The release of this system, whose systemd boots with the same control groups.
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "stable")
    command = ["debootstrap", "--variant=minbase", "--include=systemd-sysv", release, folder]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DEBOOTSTRAP_SECONDS)
    except subprocess.TimeoutExpired:
        skip(f"debootstrap took longer than {DEBOOTSTRAP_SECONDS} s")
    if done.returncode != 0:
        skip(f"debootstrap has no Debian: {done.stdout[-300:]}")
    (folder / "made").touch()


class Machine:
    """A booted Debian. Its first process is `leader`, as this system numbers it."""

    def __init__(self, debian, packages):
        self.log = packages / "console"
        with self.log.open("w") as console:
            self.process = subprocess.Popen(
                [
                    *("systemd-nspawn", "--quiet", f"--directory={debian}", "--volatile=overlay"),
                    *("--register=no", "--keep-unit", f"--machine=tcpcore-{os.getpid()}"),
                    *("--private-network", f"--bind-ro={packages}:/packages", "--console=pipe", "--boot"),
                    *("systemd.mask=apt-daily.timer", "systemd.mask=apt-daily-upgrade.timer"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        self.leader = None

    def boot(self):
        begin = time.monotonic()
        while time.monotonic() - begin < DEADLINE_SECONDS and self.process.poll() is None:
            self.leader = self.leader or self.find_leader()
            if self.leader:
                done = self.enter("systemctl", "is-system-running")
                if done.stdout.strip() in ("running", "degraded"):
                    return
            time.sleep(0.2)
        skip(f"no systemd can be booted here: {self.log.read_text()[-500:]}")

    def find_leader(self):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in children.read_text().split():
            try:
                if Path(f"/proc/{pid}/comm").read_text().strip() in ("systemd", "init"):
                    return pid
            except FileNotFoundError:
                pass
        return None

    def enter(self, *command):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        return subprocess.run(
            ["nsenter", f"--target={self.leader}", "--all", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            timeout=DEADLINE_SECONDS,
        )

    def run(self, command, status=0):
        """Runs a line of the shell, and returns its output."""
        done = self.enter("/bin/sh", "-c", command)
        if done.returncode != status:
            journal = self.enter("journalctl", "--no-pager", "--lines=50").stdout
            fail(f"{command}: status {done.returncode}: {done.stdout}\n{journal}")
        return done.stdout.strip()

    def show(self, unit, setting):
        return self.run(f"systemctl show --property={setting} --value {unit}")

    def end(self):
        # The processes end with the namespace of their first one.
        if self.leader:
            os.kill(int(self.leader), signal.SIGKILL)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def serve(listener, number):
    """Sends each client its number, and then waits until it is gone."""

    def feed(connection):
        with connection:
            connection.sendall(b"1\n%d\n" % number)
            while connection.recv(1):
                pass

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=feed, args=(connection,), daemon=True).start()


def set_network(namespace):
    """Moves this thread. A socket stays in the network in which it was made."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def start_feeds(leader):
    """Starts a feed on each port of the machine's loopback interface."""
    with open(f"/proc/{leader}/ns/net") as theirs, open("/proc/thread-self/ns/net") as ours:
        set_network(theirs)
        listeners = {port: socket.create_server(("127.0.0.1", port)) for port in PORTS}
        set_network(ours)
    for port, listener in listeners.items():
        threading.Thread(target=serve, args=(listener, PORTS[port]), daemon=True).start()


def next_version(package, packages):
    """Makes a package of a higher version, whose list has another text."""
    folder = packages / "next"
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    control = folder / "DEBIAN/control"
    text = control.read_text()
    version = next(line for line in text.splitlines() if line.startswith("Version: "))
    control.write_text(text.replace(version, "Version: 99.0-1"))
    with (folder / "etc/tcpcore/servers").open("a") as servers:
        servers.write("# The next version has this line.\n")
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", folder, packages / "next.deb"], check=True)
    shutil.rmtree(folder)


def records(machine, job):
    return machine.run(f"cat /var/lib/{job}/records").split()


def check_package(machine):
    machine.run("dpkg --install /packages/tcpcore.deb")
    expect("installed", machine.run("dpkg-query --show --showformat='${db:Status-Abbrev}' tcpcore"), "ii")
    version = machine.run("dpkg-query --show --showformat='${Version}' tcpcore")
    expect("the program runs", machine.run("tcpcore --version").split()[1], version.split("-")[0])
    expect("nothing is started", machine.run("systemctl is-active tcpcore", status=3), "inactive")
    expect("nothing is enabled", machine.run("systemctl is-enabled tcpcore", status=1), "disabled")
    machine.run("dpkg --verify tcpcore")
    files = machine.run("dpkg --listfiles tcpcore").splitlines()
    for file in [
        *("usr/bin/tcpcore", "usr/lib/systemd/system/tcpcore.service", "usr/lib/systemd/system/tcpcore@.service"),
        "usr/lib/systemd/system/tcpcore-shard@.service",
        *("usr/share/man/man1/tcpcore.1.gz", "usr/share/bash-completion/completions/tcpcore"),
        *("usr/share/zsh/vendor-completions/_tcpcore", "usr/share/fish/vendor_completions.d/tcpcore.fish"),
        *("usr/share/doc/tcpcore/copyright", "usr/share/doc/tcpcore/examples/servers"),
    ]:
        if f"/{file}" not in files:
            fail(f"the package has no {file}: {files}")
    say("the package has all files")

    # What the comments of the list and of the units say.
    machine.run("systemctl enable --now tcpcore")
    expect("a list without servers waits", machine.show("tcpcore", "ActiveState"), "active")
    machine.run("echo '127.0.0.1:9001 name=first' >>/etc/tcpcore/servers && systemctl reload tcpcore")
    wait_for("a server of the list is read after a reload", lambda: records(machine, "tcpcore") == ["6"])
    machine.run("echo '127.0.0.1:9002' >/etc/tcpcore/gates")
    machine.run("""echo 'TCPCORE_FLAGS="-d 1 --format tsv"' >/etc/default/tcpcore-gates""")
    machine.run("systemctl enable --now tcpcore@gates")
    wait_for("an instance has its own list and flags", lambda: "12" in records(machine, "tcpcore-gates"))
    expect("its format", "127.0.0.1:9002" in records(machine, "tcpcore-gates"), True)
    machine.run("echo TCPCORE_SHARDS=1 >/etc/default/tcpcore-shard && systemctl enable --now tcpcore-shard@0")
    wait_for("a shard reads its part", lambda: records(machine, "tcpcore-shard-0") == ["6"])
    machine.run("systemctl reload tcpcore-shard@0")
    expect("a reload does not restart it", records(machine, "tcpcore-shard-0"), ["6"])
    machine.run("systemctl start tcpcore-shard@1", status=1)
    machine.run("systemctl stop tcpcore-shard@1")
    say("a shard that is not there is refused")
    main = machine.show("tcpcore", "MainPID")
    user = machine.run(f"sed -n 's/^Uid:\\t\\([0-9]*\\).*/\\1/p' /proc/{main}/status")
    expect("the job runs as a user of its own", user != "0" and user.isdigit(), True)
    machine.run("echo 'nonsense' >>/etc/tcpcore/servers && systemctl reload tcpcore")
    expect("a bad list changes nothing", machine.show("tcpcore", "MainPID"), main)
    machine.run("sed -i '$d' /etc/tcpcore/servers")
    machine.run("""echo 'TCPCORE_FLAGS="--quiet"' >>/etc/default/tcpcore""")

    machine.run("dpkg --force-confold --install /packages/next.deb")
    expect("upgraded", machine.run("dpkg-query --show --showformat='${Version}' tcpcore"), "99.0-1")
    expect("the list is kept", "name=first" in machine.run("cat /etc/tcpcore/servers"), True)
    expect("the flags are kept", "--quiet" in machine.run("cat /etc/default/tcpcore"), True)
    expect("the service runs", machine.show("tcpcore", "ActiveState"), "active")
    expect("the instance runs", machine.show("tcpcore@gates", "ActiveState"), "active")
    expect("the service was restarted", machine.show("tcpcore", "MainPID") != main, True)
    wait_for("earlier records are kept, and new ones follow", lambda: records(machine, "tcpcore") == ["6", "6"])

    machine.run("dpkg --remove tcpcore")
    expect("the service is stopped", machine.run("systemctl is-active tcpcore", status=3), "inactive")
    expect("the instance is stopped", machine.run("systemctl is-active tcpcore@gates", status=3), "inactive")
    expect("no process is left", machine.run("cat /proc/[0-9]*/comm | grep tcpcore", status=1), "")
    left = set(machine.run(LEFT).splitlines())
    expect("no link of an enabled unit is left", [path for path in left if "/systemd/system/" in path], [])
    expect("lists and records are kept", {"/etc/tcpcore", "/var/lib/private/tcpcore"} <= left, True)
    machine.run("dpkg --purge tcpcore")
    expect("nothing is left after a purge", machine.run(LEFT), "")
    units = machine.run("systemctl list-units --all --plain --no-legend 'tcpcore*'")
    expect("systemd knows no unit of it", units, "")


def main():
    package, debian = (Path(argument).resolve() for argument in sys.argv[1:])
    if os.geteuid() != 0:
        skip("this is not root")
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        skip(f"there is no {', '.join(missing)}")
    make_debian(debian)
    with tempfile.TemporaryDirectory() as folder:
        packages = Path(folder)
        shutil.copy(package, packages / "tcpcore.deb")
        next_version(package, packages)
        machine = Machine(debian, packages)
        try:
            machine.boot()
            start_feeds(machine.leader)
            check_package(machine)
        finally:
            machine.end()


main()
