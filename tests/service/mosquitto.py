#!/usr/bin/env python3
"""Checks the way from servers to an MQTT broker: python3 tests/service/mosquitto.py

Three processes of tcpcore read four servers each, and a mosquitto_pub for each process publishes what it writes. One
mosquitto_pub is stopped for 10 s. Then its servers must block, and the others must not. In the end a subscriber must
have each number once, and those of each server in order. The test needs `cargo build --release`, and `mosquitto`,
`mosquitto_pub` and `mosquitto_sub` in the path. Without these three it exits with 77, as skipped.
"""

import json
import select
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

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("mosquitto", "mosquitto_pub", "mosquitto_sub")
SHARDS = 3
SERVERS_PER_SHARD = 4
STOPPED_SHARD = 0
STOP_SECONDS = 10
# A server that could not write for this long is blocked.
BLOCKED_SECONDS = 1
# The numbers that each server has sent when a phase is over.
PHASE_NUMBERS = 100
# The numbers that a server writes at once while it is to fill all buffers.
FLOOD_NUMBERS = 32
# Blanks before a number are dropped. With them few numbers fill the buffers of a connection.
LINE_BYTES = 2000
SEND_BUFFER_BYTES = 16 * 1024
DEADLINE_SECONDS = 120

# By default the broker drops messages for a subscriber that lags behind by more than 1000.
BROKER = """
listener 0 {socket}
allow_anonymous true
# As root it would become a user that may not write here.
user root
max_queued_messages 0
persistence false
log_dest stderr
log_type error
log_type warning
log_type subscribe
"""

folder = None
running = []


class Server(threading.Thread):
    """Sends its own numbers, `index * 1_000_000 + 0, 1, 2, ...`, to one client."""

    def __init__(self, index):
        super().__init__(daemon=True)
        self.first = index * 1_000_000
        self.sent = 0
        self.is_blocked = False
        self.flood = threading.Event()
        self.finish = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.start()

    def run(self):
        client, _ = self.listener.accept()
        self.listener.close()
        client.setblocking(False)
        while not self.finish.is_set():
            self.send(client, FLOOD_NUMBERS if self.flood.is_set() else 1)
            if not self.flood.is_set():
                self.finish.wait(0.02)
        client.close()

    def send(self, client, count):
        numbers = range(self.first + self.sent, self.first + self.sent + count)
        lines = memoryview(b"".join(b"%*d\n" % (LINE_BYTES - 1, number) for number in numbers))
        while lines:
            if not select.select([], [client], [], BLOCKED_SECONDS)[1]:
                self.is_blocked = True
                continue
            lines = lines[client.send(lines) :]
            self.is_blocked = False
        self.sent += count


def start(name, *command, stdin=subprocess.DEVNULL, stdout=None):
    """Starts a program, whose stdout is a file NAME.out by default and whose stderr is NAME.log."""
    with (folder / f"{name}.log").open("w") as stderr, (folder / f"{name}.out").open("w") as out:
        process = subprocess.Popen(command, stdin=stdin, stdout=stdout or out, stderr=stderr)
    running.append((name, process))
    return process


def log_of(name):
    return (folder / f"{name}.log").read_text()


def wait_for(what, attempt):
    return steps.wait_for(what, attempt, DEADLINE_SECONDS)


def wait_for_end(name, process):
    wait_for(f"{name} ends", lambda: process.poll() is not None)
    if process.returncode != 0:
        fail(f"{name} ended with {process.returncode}")


class Subscriber:
    """Reads what mosquitto_sub has written: the numbers by server, and whether the last message has come."""

    def __init__(self, broker):
        format_of_lines = ("-F", "%t %p")
        start("subscriber", "mosquitto_sub", "--unix", broker, "-q", "1", "-t", "feeds/#", *format_of_lines)
        self.lines = (folder / "subscriber.out").open()
        self.unfinished = ""
        self.numbers = {}
        self.count = 0
        self.is_last = False

    def read(self):
        while line := self.lines.readline():
            line = self.unfinished + line
            if not line.endswith("\n"):
                self.unfinished = line
                return self
            self.unfinished = ""
            topic, _, payload = line.partition(" ")
            if topic == "feeds/last":
                self.is_last = True
            else:
                record = json.loads(payload)
                self.numbers.setdefault(record["server"], []).append(record["number"])
                self.count += 1
        return self


def run():
    broker = folder / "broker.sock"
    (folder / "mosquitto.conf").write_text(BROKER.format(socket=broker))
    start("broker", "mosquitto", "-c", folder / "mosquitto.conf")
    wait_for("the broker listens", broker.exists)
    subscriber = Subscriber(broker)
    wait_for("the subscriber has subscribed", lambda: "feeds/#" in log_of("broker"))

    servers = [Server(index) for index in range(SHARDS * SERVERS_PER_SHARD)]
    shards = [servers[at::SHARDS] for at in range(SHARDS)]
    readers, clients = [], []
    for at, shard in enumerate(shards):
        addresses = [server.address for server in shard]
        # One worker has one queue, so less has to be sent until it is full.
        tcpcore = (ROOT / "target/release/tcpcore", "--once", "-p", "1", "-d", "1", "--format", "json")
        reader = start(f"tcpcore-{at}", *tcpcore, *addresses, stdout=subprocess.PIPE)
        publish = ("mosquitto_pub", "--unix", broker, "-q", "1", "-t", f"feeds/{at}", "-l")
        clients.append(start(f"client-{at}", *publish, stdin=reader.stdout))
        reader.stdout.close()
        readers.append(reader)
    wait_for("all servers send", lambda: all(server.sent >= PHASE_NUMBERS for server in servers))
    wait_for("all servers are published", lambda: len(subscriber.read().numbers) == len(servers))

    stopped = shards[STOPPED_SHARD]
    others = [server for server in servers if server not in stopped]
    client = clients[STOPPED_SHARD]
    client.send_signal(signal.SIGSTOP)
    begin = time.monotonic()
    before = [server.sent for server in others]
    sent_before = sum(server.sent for server in stopped)
    for server in stopped:
        server.flood.set()
    is_over = lambda: time.monotonic() - begin >= STOP_SECONDS
    are_blocked = lambda: all(server.is_blocked for server in stopped)
    wait_for("a client is stopped, and its servers block", lambda: is_over() and are_blocked())
    print(f"     they sent {sum(server.sent for server in stopped) - sent_before} numbers meanwhile")
    if any(server.is_blocked for server in others):
        fail("a server of another process is blocked")
    if any(server.sent <= count for server, count in zip(others, before)):
        fail("a server of another process sent nothing meanwhile")
    for server in stopped:
        server.flood.clear()
    client.send_signal(signal.SIGCONT)
    goals = [server.sent + PHASE_NUMBERS for server in stopped]
    go_on = lambda: all(server.sent >= goal for server, goal in zip(stopped, goals))
    wait_for("its servers send again", go_on)
    # mosquitto_pub ends too early if its input ends while more than 65,535 messages wait.
    count = sum(server.sent for server in servers)
    wait_for("the backlog is published", lambda: subscriber.read().count >= count)

    for server in servers:
        server.finish.set()
    for at in range(SHARDS):
        wait_for_end(f"tcpcore-{at}", readers[at])
        wait_for_end(f"client-{at}", clients[at])
    # The broker keeps the order of messages to a subscriber, so none follows this one.
    subprocess.run(
        ("mosquitto_pub", "--unix", broker, "-q", "1", "-t", "feeds/last", "-m", ""), check=True
    )
    wait_for("the last message arrives", lambda: subscriber.read().is_last)
    for server in servers:
        expected = list(range(server.first, server.first + server.sent))
        received = subscriber.numbers.get(server.address, [])
        if received != expected:
            lost = len(set(expected) - set(received))
            doubled = len(received) - len(set(received))
            fail(f"{server.address}: of {server.sent}, {lost} lost, {doubled} doubled, or out of order")
    count = sum(server.sent for server in servers)
    say(f"{count} numbers of {len(servers)} servers arrived once each, in order")


def main():
    global folder
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        skip(f"there is no {' and no '.join(missing)}")
    # A request to stop also ends the programs that were started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        try:
            run()
        except SystemExit:
            for name, _ in running:
                print(f"---- {name}\n{log_of(name)[-2000:]}", flush=True)
            raise
        finally:
            for _, process in running:
                process.kill()
                process.wait()


main()
