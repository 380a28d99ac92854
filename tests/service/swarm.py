#!/usr/bin/env python3
"""Checks the shards of one list on a real Docker Swarm: python3 tests/service/swarm.py

It builds the image of `deploy/Containerfile` and deploys `deploy/swarm/stack.yml` to an engine of its own. Twelve feeds
send numbers that name their feed and their place in it. The test kills a task, scales the service and updates it. It
compares what the feeds sent with what the tasks printed, and it prints what was missing or doubled meanwhile.

The engine, its tasks and the feeds have namespaces of their own, so ports, processes and mounts end with the test. The
image is built without a registry, on a Debian by debootstrap and with the toolchain of this machine. It needs root,
`docker`, `dockerd`, `containerd`, `runc`, `debootstrap` and `cargo`. Without one of these it exits with 77, as skipped.

    --rootfs FILE   import the tar FILE instead of the build, with the program in /usr/bin/tcpcore
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import steps
from steps import SKIPPED, check, fail, skip

ROOT = Path(__file__).resolve().parents[2]
# What takes long to make and stays the same.
CACHE = ROOT / "target/ci/swarm"
TOOLS = ["docker", "dockerd", "containerd", "runc", "debootstrap", "cargo", "unshare", "ip"]
DEADLINE_SECONDS = 180
BUILD_SECONDS = 1800
DOWNLOAD_SECONDS = 600

FEEDS = 12
# The network is the test's own, so ports are free.
FIRST_PORT = 9001
SYSLOG_PORT = 5514
TICK_SECONDS = 0.02
SERVICE = "tcpcore_shard"

folder = None


def wait_for(what, attempt):
    return steps.wait_for(what, attempt, DEADLINE_SECONDS)


class Connection:
    """One connection of a feed. It was sent the ticks from `first` to before `end`."""

    def __init__(self, client, tick):
        self.socket = client
        self.first = self.end = tick
        self.open = True


class Feeds(threading.Thread):
    """Sends each client of each feed a number every tick: six times 10^9 times the feed plus the tick.

    A tick is sent to all clients of a feed, so it is missing if there are none, and doubled if there are two.
    """

    def __init__(self):
        super().__init__(daemon=True)
        self.tick = 1
        self.times = [time.monotonic()] * 2
        self.connections = [[] for _ in range(FEEDS)]
        self.sending = True
        self.failure = None
        self.listeners = []
        for feed in range(FEEDS):
            listener = socket.create_server(("127.0.0.1", FIRST_PORT + feed))
            listener.setblocking(False)
            self.listeners.append(listener)

    def run(self):
        try:
            while True:
                begin = time.monotonic()
                self.turn()
                time.sleep(max(0, TICK_SECONDS - (time.monotonic() - begin)))
        except Exception as error:
            self.failure = error
            raise

    def turn(self):
        for feed, listener in enumerate(self.listeners):
            with contextlib.suppress(BlockingIOError):
                while True:
                    client, _ = listener.accept()
                    client.setblocking(False)
                    self.connections[feed].append(Connection(client, self.tick))
            line = b"%d\n" % (6 * ((feed + 1) * 10**9 + self.tick))
            for connection in self.connections[feed]:
                if connection.open:
                    self.serve(connection, line)
        if self.sending:
            self.tick += 1
            self.times.append(time.monotonic())

    def serve(self, connection, line):
        try:
            if connection.socket.recv(1) == b"":
                raise ConnectionResetError
        except BlockingIOError:
            pass
        except ConnectionError:
            connection.open = False
            connection.socket.close()
            return
        if self.sending:
            # The program reads all the time, so the line fits.
            try:
                sent = connection.socket.send(line)
                assert sent == len(line)
                connection.end = self.tick + 1
            except ConnectionError:
                connection.open = False
                connection.socket.close()

    def open(self, feed):
        return [connection for connection in self.connections[feed] if connection.open]

    def owned_once(self):
        if self.failure:
            fail(f"the feeds: {self.failure!r}")
        return all(len(self.open(feed)) == 1 for feed in range(FEEDS))

    def pass_ticks(self, count):
        end = self.tick + count
        while self.tick < end:
            time.sleep(TICK_SECONDS)


class Output:
    """What a container has printed: the ticks of each feed, in order, and its log."""

    def __init__(self):
        self.ticks = {}
        self.log = []
        self.shards = set()

    def take(self, line):
        record = json.loads(line)
        number, rest = divmod(record["number"], 6)
        feed, tick = divmod(number, 10**9)
        assert rest == 0 and record["server"] == f"gate-{feed}", f"no feed has sent this: {line}"
        self.shards.add(record["shard"])
        self.ticks.setdefault(feed - 1, []).append(tick)


class Collector(socketserver.ThreadingTCPServer):
    """Takes the output of all containers. The engine sends it by syslog, with a connection for each of them.

    The engine's own files would be gone: it deletes those of a slot with the slot.
    """

    # The priorities of stdout and stderr.
    STDOUT = "<30>1"
    STDERR = "<27>1"

    def __init__(self):
        super().__init__(("127.0.0.1", SYSLOG_PORT), None)
        self.daemon_threads = True
        self.outputs = {}
        self.open = 0
        self.failure = None
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def finish_request(self, request, client_address):
        with self.lock:
            self.open += 1
        try:
            for line in request.makefile(encoding="utf-8", newline="\n"):
                priority, _, _, container, _, _, _, message = line.rstrip("\n").split(" ", 7)
                output = self.outputs.setdefault(container, Output())
                if priority == self.STDOUT:
                    output.take(message)
                else:
                    assert priority == self.STDERR, line
                    output.log.append(message)
        except Exception as failure:
            self.failure = failure
            raise
        finally:
            with self.lock:
                self.open -= 1

    def of(self, container):
        if self.failure:
            fail(f"the output: {self.failure!r}")
        return self.outputs.get(container["Id"], Output())


class Engine:
    """A Docker engine that is a swarm of one machine."""

    def __init__(self):
        config = folder / "daemon.json"
        config.write_text("{}")
        self.host = f"unix://{folder}/docker.sock"
        self.log = folder / "dockerd.log"
        self.process = subprocess.Popen(
            [
                *("dockerd", f"--config-file={config}", f"--host={self.host}", f"--pidfile={folder}/docker.pid"),
                *(f"--data-root={folder}/data", f"--exec-root={folder}/exec"),
                *("--bridge=none", "--iptables=false", "--ip-forward=false", "--cgroup-parent=/tcpcore-swarm"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log.open("w"),
        )

    def started(self):
        """Returns whether the engine answers. One that ends first cannot run on this machine."""
        begin = time.monotonic()
        while time.monotonic() - begin < DEADLINE_SECONDS and self.process.poll() is None:
            if subprocess.run(["docker", "-H", self.host, "version"], capture_output=True).returncode == 0:
                return True
            time.sleep(0.1)
        return False

    def __call__(self, *arguments, **settings):
        """Runs `docker` and returns its stdout."""
        settings = {"stdin": subprocess.DEVNULL, "timeout": DEADLINE_SECONDS} | settings
        done = subprocess.run(["docker", "-H", self.host, *map(str, arguments)], capture_output=True, text=True, **settings)
        if done.returncode != 0:
            fail(f"docker {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
        return done.stdout

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Stack:
    """The stack of `deploy/swarm`, with what a user writes: the servers, and the number of shards."""

    # The engine sends what the tasks print to the test.
    LOGGING = f"""
      driver: syslog
      options:
        syslog-address: tcp://127.0.0.1:{SYSLOG_PORT}
        syslog-format: rfc5424
        tag: "{{{{.FullID}}}}"
    deploy:"""

    def __init__(self, docker, shard_by):
        self.docker = docker
        self.folder = folder / f"stack-{shard_by}"
        self.folder.mkdir()
        stack = (ROOT / "deploy/swarm/stack.yml").read_text()
        stack = self.replaced(stack, "--shard-by, hash", f"--shard-by, {shard_by}")
        # Shorter pauses between two tasks, as nobody looks at the first ones before the next.
        stack = self.replaced(stack, "delay: 5s,", "delay: 1s, monitor: 3s,")
        before, logging = stack.split("    logging:", 1)
        self.stack = f"{before}    logging:{self.LOGGING}{logging.split('    deploy:', 1)[1]}"
        self.image = "tcpcore:latest"
        self.shards = 4
        self.order = "stop-first"
        # The last one is looked up: the image has what that takes.
        hosts = ["127.0.0.1"] * (FEEDS - 1) + ["localhost"]
        servers = "".join(f"{host}:{FIRST_PORT + feed} name=gate-{feed + 1}\n" for feed, host in enumerate(hosts))
        (self.folder / "servers").write_text(servers)
        self.list = hashlib.sha256(servers.encode()).hexdigest()[:12]

    @staticmethod
    def replaced(text, old, new):
        assert text.count(old) == 1, f"the stack file has not one {old!r}"
        return text.replace(old, new)

    def deploy(self, at_once=1):
        text = self.replaced(self.stack, "&shards 4", f"&shards {self.shards}")
        text = self.replaced(text, "order: stop-first", f"order: {self.order}")
        (self.folder / "stack.yml").write_text(text)
        settings = os.environ | {"IMAGE": self.image, "LIST": self.list, "AT_ONCE": str(at_once)}
        # There is no registry that knows the image.
        self.docker(
            *("stack", "deploy", "--resolve-image=never", "-c", "stack.yml", "tcpcore"), cwd=self.folder, env=settings
        )

    def containers(self):
        """Returns all containers, the ended ones too, as inspected."""
        label = f"label=com.docker.swarm.service.name={SERVICE}"
        ids = self.docker("ps", "--all", "--quiet", "--no-trunc", "--filter", label).split()
        return json.loads(self.docker("inspect", *ids)) if ids else []

    def running(self):
        """Returns the running container of each slot."""
        found = {}
        for container in self.containers():
            if container["State"]["Running"]:
                found.setdefault(slot_of(container), container)
        return found

    def tasks(self, *filters):
        answer = self.docker("service", "ps", "--no-trunc", "--format", "{{json .}}", *filters, SERVICE)
        return [json.loads(line) for line in answer.splitlines()]

    def settled(self):
        """Returns whether the engine is done with an update, and all slots run."""
        [service] = json.loads(self.docker("service", "inspect", SERVICE))
        state = (service.get("UpdateStatus") or {}).get("State", "completed")
        if state in ("paused", "rollback_started"):
            fail(f"the update is {state}: {service['UpdateStatus']}")
        tasks = self.tasks("--filter", "desired-state=running")
        return (
            state == "completed"
            and len(tasks) == self.shards
            and all(task["CurrentState"].startswith("Running") for task in tasks)
        )

    def remove(self):
        self.docker("stack", "rm", "tcpcore")
        wait_for("the stack is removed", lambda: not self.docker("ps", "--quiet"))


def slot_of(container):
    """Returns the slot of a container: its task is called service.slot.id."""
    return int(container["Config"]["Labels"]["com.docker.swarm.task.name"].split(".")[-2])


class Ledger:
    """Compares what was sent with what was printed."""

    def __init__(self, feeds, collector):
        self.feeds = feeds
        self.collector = collector
        self.phases = []

    @contextlib.contextmanager
    def phase(self, name):
        """Notes the ticks that are sent meanwhile, with half a second before and after."""
        print(f"     {name}", flush=True)
        self.feeds.pass_ticks(25)
        first = self.feeds.tick
        yield
        self.feeds.pass_ticks(25)
        self.phases.append((name, first, self.feeds.tick))

    def check(self):
        """Checks that each line was printed once by the task that it was sent to, and prints what each phase cost."""
        connections = [list(of_feed) for of_feed in self.feeds.connections]
        counts = [{} for _ in range(FEEDS)]
        lost = 0
        for container, output in self.collector.outputs.items():
            for feed, printed in output.ticks.items():
                for run in runs(printed):
                    connection = sent_as(connections[feed], run)
                    if connection is None:
                        raise SystemExit(
                            f"FAIL {container} printed ticks {run[0]} to {run[-1]} of server {feed + 1}, which no "
                            "connection was sent"
                        )
                    connections[feed].remove(connection)
                    lost += connection.end - run[-1] - 1
                    for tick in run:
                        counts[feed][tick] = counts[feed].get(tick, 0) + 1
        left = [connection for of_feed in connections for connection in of_feed]
        check("each connection that is open was printed", not any(connection.open for connection in left))
        lost += sum(connection.end - connection.first for connection in left)
        sent = sum(c.end - c.first for of_feed in self.feeds.connections for c in of_feed)
        total = sum(count for of_feed in counts for count in of_feed.values())
        check(
            f"of {sent} lines, {total} were printed by the task that they were sent to, in order, and {lost} were on their "
            "way to a task that ended",
            total + lost == sent,
        )
        return [self.cost(phase, counts) for phase in self.phases]

    def cost(self, phase, counts):
        name, first, end = phase
        missing = [self.spell(feed, first, end, lambda count: count == 0, counts) for feed in range(FEEDS)]
        doubled = [self.spell(feed, first, end, lambda count: count > 1, counts) for feed in range(FEEDS)]
        print(f"     {name}: {described(missing, 'missing')}; {described(doubled, 'doubled')}", flush=True)
        return missing, doubled

    def spell(self, feed, first, end, meant, counts):
        """Returns the ticks of a phase whose count is meant, and the time that they took."""
        ticks = [tick for tick in range(first, end) if meant(counts[feed].get(tick, 0))]
        return ticks, sum(self.feeds.times[tick] - self.feeds.times[tick - 1] for tick in ticks)


def described(spells, word):
    seconds = sorted(seconds for ticks, seconds in spells if ticks)
    if not seconds:
        return f"nothing {word}"
    lines = sum(len(ticks) for ticks, _ in spells)
    return f"{lines} lines of {len(seconds)} servers {word}, for {seconds[0]:.2f} to {seconds[-1]:.2f} s"


def runs(ticks):
    """Splits ticks where they are not consecutive."""
    found = []
    for tick in ticks:
        if found and tick == found[-1][-1] + 1:
            found[-1].append(tick)
        else:
            found.append([tick])
    return found


def sent_as(connections, run):
    """Returns the connection that a run is the beginning of, or all of it if it is open. The shortest of several."""
    fitting = [c for c in connections if c.first == run[0] and c.end > run[-1]]
    fitting = [c for c in fitting if not c.open or c.end == run[-1] + 1]
    return min(fitting, key=lambda connection: connection.end, default=None)


class Scenario:
    def __init__(self, docker, feeds, collector, shard_by):
        self.docker = docker
        self.feeds = feeds
        self.collector = collector
        self.stack = Stack(docker, shard_by)
        self.ledger = Ledger(feeds, collector)

    def settle(self, what):
        """Waits until the engine is done and each server has one connection. Returns the slot of each server."""
        wait_for(f"{what}: the engine is done", self.stack.settled)
        wait_for(f"{what}: each server has one connection", self.feeds.owned_once)
        owners = wait_for(f"{what}: one task prints each server", self.owners)
        for slot, container in self.stack.running().items():
            shards = self.collector.of(container).shards
            # A shard may have no server.
            if shards and shards != {f"{slot - 1}/{self.stack.shards}"}:
                fail(f"slot {slot} of {self.stack.shards} prints as shard {shards}")
        return owners

    def owners(self):
        """Returns the slot of each server, or nothing while one is printed by no task or by two."""
        found = {}
        for slot, container in self.stack.running().items():
            for feed in list(self.collector.of(container).ticks):
                if feed in found:
                    return None
                found[feed] = slot
        return found if len(found) == FEEDS else None

    def kept(self, before, feeds):
        """Returns whether these feeds still have the connection of before, and no other."""
        return all(self.feeds.open(feed) == before[feed] for feed in feeds)

    def connections(self):
        return [self.feeds.open(feed) for feed in range(FEEDS)]

    def start(self, phase="4 shards start"):
        self.stack.deploy()
        owners = self.settle(phase)
        servers = {slot: [f + 1 for f in owners if owners[f] == slot] for slot in sorted(self.stack.running())}
        print(f"     servers of each slot: {servers}", flush=True)
        check("four tasks run", len(servers) == 4, servers)

    def change_shards(self, name, shards, at_once, order):
        with self.ledger.phase(name):
            self.stack.shards = shards
            self.stack.order = order
            self.stack.deploy(at_once)
            owners = self.settle(name)
        servers = {slot: [f + 1 for f in owners if owners[f] == slot] for slot in sorted(self.stack.running())}
        print(f"     servers of each slot: {servers}", flush=True)

    def kill_a_task(self):
        owners = self.owners()
        slot = owners[0]
        others = [feed for feed in owners if owners[feed] != slot]
        before = self.connections()
        killed = self.stack.running()[slot]
        with self.ledger.phase("a task is killed"):
            os.kill(killed["State"]["Pid"], signal.SIGKILL)
            wait_for("its servers lose their connection", lambda: self.connections()[0] != before[0])
            again = wait_for("the engine starts it again", lambda: self.stack.running().get(slot))
            check("it has a new container", again["Id"] != killed["Id"])
            check("it has the same servers", self.settle("a task is killed") == owners)
        check("the others keep their connections", self.kept(before, others))
        return others

    def scale_up_alone(self):
        """Scales without the number of shards: the surplus tasks say what is wrong, and nothing else changes."""
        before = self.connections()
        with self.ledger.phase("scaled to 6 without the number of shards"):
            self.docker("service", "scale", "--detach", f"{SERVICE}=6")
            for slot in (5, 6):
                wait_for(f"slot {slot} fails", lambda: self.failed(slot))
        check("all servers keep their connections", self.kept(before, range(FEEDS)))

    def failed(self, slot):
        """Returns whether a container of this slot ended with a usage error that names the number of shards."""
        for container in self.stack.containers():
            log = self.collector.of(container).log
            if slot_of(container) == slot and container["State"]["Status"] == "exited" and log:
                check(f"slot {slot} ends with a usage error", container["State"]["ExitCode"] == 2, log)
                expected = f'TCPCORE_SLOT: "{slot}" is not allowed, expected a number from 1 to 4, as TCPCORE_SHARDS is 4'
                check(f"it says: {log[0]}", expected in log[0])
                return True
        return False

    def scale_down_alone(self):
        """Scales without the number of shards: the servers of the last shard have no owner."""
        owners = self.owners()
        last = max(self.stack.running())
        orphans = [feed for feed in owners if owners[feed] == last]
        others = [feed for feed in owners if owners[feed] != last]
        before = self.connections()
        with self.ledger.phase("scaled down by 1 without the number of shards, and back"):
            self.docker("service", "scale", "--detach", f"{SERVICE}={last - 1}")
            wait_for("the servers of the last shard have no owner", lambda: not any(map(self.feeds.open, orphans)))
            self.docker("service", "scale", "--detach", f"{SERVICE}={last}")
            check("scaled back, each has its owner", self.settle("scaled back") == owners)
        check("the others keep their connections", self.kept(before, others))
        return others

    def update(self, name, image, order):
        with self.ledger.phase(name):
            owners = self.owners()
            self.stack.image = image
            self.stack.order = order
            self.stack.deploy()
            check("each task has the same servers", self.settle(name) == owners)
        images = {container["Config"]["Image"] for container in self.stack.running().values()}
        check("all tasks have the new image", images == {image}, images)
        return owners

    def finish(self):
        self.feeds.sending = False
        opened = [connection for of_feed in self.connections() for connection in of_feed]
        ends = {connection.end - 1 for connection in opened}
        wait_for("all lines are printed", lambda: self.last_ticks() >= ends)
        wait_for("the output of ended tasks is complete", lambda: self.collector.open == self.stack.shards)
        costs = self.ledger.check()
        self.stack.remove()
        wait_for("all connections are closed", lambda: not any(self.connections()))
        wait_for("all output is complete", lambda: self.collector.open == 0)
        self.feeds.connections = [[] for _ in range(FEEDS)]
        self.collector.outputs = {}
        self.feeds.sending = True
        return costs

    def last_ticks(self):
        running = self.stack.running().values()
        return {ticks[-1] for container in running for ticks in list(self.collector.of(container).ticks.values())}


def nothing(spells, feeds=range(FEEDS)):
    return all(not spells[feed][0] for feed in feeds)


def the_stack_file(docker, feeds, collector):
    """Checks the stack as it is, with all that an operator does to it."""
    scenario = Scenario(docker, feeds, collector, "hash")
    scenario.start()
    beside_killed = scenario.kill_a_task()
    scenario.scale_up_alone()
    scenario.change_shards("from 4 to 6 shards by hash, one after the other, stop-first", 6, 1, "stop-first")
    owners = scenario.update("rolling update, stop-first", "tcpcore:next", "stop-first")
    scenario.update("rolling update, start-first", "tcpcore:latest", "start-first")
    beside_last = scenario.scale_down_alone()
    scenario.change_shards("from 6 to 4 shards by hash, all at once, start-first", 4, 0, "start-first")
    killed, scaled, _, stopped, _, orphaned, _ = scenario.finish()
    for spells in killed:
        check("a killed task costs the others nothing", nothing(spells, beside_killed), spells)
    for spells in scaled:
        check("surplus tasks cost nothing", nothing(spells), spells)
    for spells in orphaned:
        check("scaling down costs the others nothing", nothing(spells, beside_last), spells)
    missing, doubled = stopped
    check("stop-first doubles nothing", nothing(doubled), doubled)
    slots = {}
    for feed, (ticks, _) in enumerate(missing):
        for tick in ticks:
            slots.setdefault(tick, set()).add(owners[feed])
    check("at any time, a rolling update costs one shard alone", all(len(of) == 1 for of in slots.values()), slots)


def slices(docker, feeds, collector):
    """Measures what slices instead of hashes cost when their number changes."""
    scenario = Scenario(docker, feeds, collector, "slice")
    scenario.start()
    scenario.change_shards("from 4 to 6 shards by slice, one after the other, stop-first", 6, 1, "stop-first")
    scenario.change_shards("from 6 to 4 shards by slice, all at once, stop-first", 4, 0, "stop-first")
    scenario.finish()


def build(docker, rootfs):
    if rootfs:
        docker("import", "--change", 'ENTRYPOINT ["/usr/bin/tcpcore"]', "--change", "USER 65532", rootfs, "tcpcore")
    else:
        print("     the image is built", flush=True)
        docker("import", folder / "base.tar", "tcpcore-base", timeout=BUILD_SECONDS)
        docker(
            *("build", "--network=none", "--build-arg=BASE=tcpcore-base", "--tag=tcpcore", "-f", "deploy/Containerfile", "."),
            cwd=ROOT,
            timeout=BUILD_SECONDS,
        )
        check("the image is built", True)
    docker("tag", "tcpcore", "tcpcore:next")
    [image] = json.loads(docker("image", "inspect", "tcpcore"))
    print(f"     the image has {image['Size'] / 1e6:.1f} MB", flush=True)
    check("its user is not root", image["Config"]["User"] not in ("", "0", "root"))
    answer = docker("run", "--rm", "--network=none", "--read-only", "tcpcore", "--version")
    check("it runs", answer.startswith("tcpcore "), answer)


def run(rootfs):
    """Runs everything, within the namespaces."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    docker = Engine()
    try:
        if not docker.started():
            print("".join(docker.log.open().readlines()[-3:]), file=sys.stderr)
            skip("Docker does not start on this machine")
        build(docker, rootfs)
        docker("swarm", "init", "--advertise-addr=127.0.0.1", "--listen-addr=127.0.0.1", "--task-history-limit=1000")
        feeds = Feeds()
        feeds.start()
        collector = Collector()
        the_stack_file(docker, feeds, collector)
        slices(docker, feeds, collector)
    except SystemExit as failure:
        if failure.code != SKIPPED:
            tasks = ("--no-trunc", "--format", "{{.Name}}: {{.CurrentState}}. {{.Error}}", SERVICE)
            for evidence in (("ps", *tasks), ("logs", "--tail=5", SERVICE)):
                command = ["docker", "-H", docker.host, "service", *evidence]
                done = subprocess.run(
                    command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEADLINE_SECONDS
                )
                if done.returncode == 0:
                    sys.stderr.write("".join(done.stdout.splitlines(keepends=True)[:20]))
        raise
    finally:
        docker.stop()


def make_base():
    """Writes what the build starts from: a Debian with a linker, the toolchain, and the sources of the dependencies."""
    debian = CACHE / "debian.tar"
    base = folder / "base"
    if not debian.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        command = ["debootstrap", "--variant=minbase", "--include=gcc,libc6-dev", "bookworm", folder / "debian"]
        print("     debootstrap", flush=True)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=DOWNLOAD_SECONDS)
        if done.returncode != 0:
            skip(f"debootstrap has no Debian: {done.stdout.decode()[-300:]}")
        # No half of a tar is left.
        subprocess.run(["tar", "-C", folder / "debian", "-cf", f"{debian}.new", "."], check=True)
        Path(f"{debian}.new").rename(debian)
        shutil.rmtree(folder / "debian")
    base.mkdir()
    subprocess.run(["tar", "-C", base, "-xf", debian], check=True)
    toolchain = Path(subprocess.check_output(["rustc", "--print", "sysroot"], text=True, cwd=ROOT).strip())
    target = f"lib/rustlib/{os.uname().machine}-unknown-linux-gnu"
    for part in ("bin/cargo", "bin/rustc", target, *(path.relative_to(toolchain) for path in toolchain.glob("lib/*.so*"))):
        to = base / "usr/local" / part
        to.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", toolchain / part, to], check=True)
    command = ["cargo", "vendor", "--locked", "--quiet", base / "vendor"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT, timeout=DOWNLOAD_SECONDS)
    (base / "root/.cargo").mkdir(parents=True)
    (base / "root/.cargo/config.toml").write_text(
        '[source.crates-io]\nreplace-with = "vendor"\n[source.vendor]\ndirectory = "/vendor"\n'
    )
    subprocess.run(["tar", "-C", base, "-cf", folder / "base.tar", "."], check=True)
    shutil.rmtree(base)


def main():
    global folder
    parser = argparse.ArgumentParser()
    parser.add_argument("--rootfs", type=Path)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # A request to stop also ends what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if arguments.inside:
        folder = arguments.inside
        run(arguments.rootfs)
        return
    if os.geteuid() != 0:
        skip("a Docker engine needs root")
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        skip(f"there is no {', '.join(missing)}")
    namespaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=SIGTERM", "--mount-proc"]
    if subprocess.run([*namespaces, "true"], capture_output=True).returncode != 0:
        skip("there are no namespaces of the test's own")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as path:
        folder = Path(path)
        rootfs = []
        if arguments.rootfs:
            rootfs = ["--rootfs", arguments.rootfs.resolve()]
        else:
            make_base()
        inside = subprocess.Popen([*namespaces, sys.executable, __file__, "--inside", folder, *rootfs])
        try:
            sys.exit(inside.wait())
        finally:
            # `unshare` ignores a request to stop, so its child is asked.
            if inside.poll() is None:
                for child in Path(f"/proc/{inside.pid}/task/{inside.pid}/children").read_text().split():
                    os.kill(int(child), signal.SIGTERM)
            inside.wait()
            remove_groups()


def remove_groups():
    """Removes the control groups of the containers, which hold no process any more."""
    for group in sorted(Path("/sys/fs/cgroup").glob("**/tcpcore-swarm"), reverse=True):
        for path, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)


main()
