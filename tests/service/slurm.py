#!/usr/bin/env python3
"""Checks shards under Slurm: python3 tests/service/slurm.py

It starts an engine of its own, with one node, in namespaces of its own, so nothing of it stays and nothing outside
sees it. The batch script of deploy/slurm reads twelve servers over four tasks. Tasks are killed and requeued, and the
node is lost. What is missing or doubled meanwhile is measured and printed.

It needs `cargo build --release`, root, and the programs of Slurm and MUNGE: in the path, or with their libraries
below target/ci/slurm. Without these it exits with 77, as skipped.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import steps
from steps import check, fail, skip

ROOT = Path(__file__).resolve().parents[2]
UNPACKED = ROOT / "target/ci/slurm"
SCRIPT = ROOT / "deploy/slurm/tcpcore.sbatch"
NAMESPACES = "--net --uts --ipc --mount --pid --fork --kill-child --mount-proc".split()
DEADLINE_SECONDS = 120

SERVERS = 12
SHARDS = 4
# Fixed, so that the hash gives each shard three. The namespace has no other listeners.
FIRST_PORT = 7300
INTERVAL_SECONDS = 0.02
# A requeued job waits for its credential to expire, by default for 120 s.
CREDENTIAL_SECONDS = 5

folder = None
running = []


def wait_for(what, attempt):
    return steps.wait_for(what, attempt, DEADLINE_SECONDS)


class Connection:
    """One client of a feed: what it was sent, and when it came and went."""

    def __init__(self, writer):
        self.writer = writer
        self.begin = time.monotonic()
        self.end = None
        self.sent = []


class Feeds:
    """Twelve servers. Feed k sends 6 * (12 * n + k) for n = 0, 1, 2, ..., so a number names its server."""

    def __init__(self):
        self.connections = [[] for _ in range(SERVERS)]
        self.unsent = [0] * SERVERS
        self.sending = True
        self.closing = False
        ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve(ready)), daemon=True)
        self.thread.start()
        ready.wait()

    def close(self):
        self.closing = True
        self.thread.join()

    async def serve(self, ready):
        servers = []
        for feed in range(SERVERS):
            server = await asyncio.start_server(
                lambda reader, writer, feed=feed: self.accept(feed, reader, writer),
                *("127.0.0.1", FIRST_PORT + feed),
            )
            servers.append(server)
        ready.set()
        count = 0
        while not self.closing:
            await asyncio.sleep(INTERVAL_SECONDS)
            if self.sending:
                self.send(count)
                count += 1
        for server in servers:
            server.close()

    async def accept(self, feed, reader, writer):
        connection = Connection(writer)
        self.connections[feed].append(connection)
        try:
            await reader.read()
        except ConnectionError:
            pass
        connection.end = time.monotonic()
        writer.close()

    def send(self, count):
        for feed in range(SERVERS):
            number = 6 * (SERVERS * count + feed)
            clients = self.clients(feed)
            for connection in clients:
                connection.sent.append(number)
                connection.writer.write(b"%d\n" % number)
            # Before the first client there is nothing to miss.
            if not clients and self.connections[feed]:
                self.unsent[feed] += 1

    def clients(self, feed):
        return [connection for connection in self.connections[feed] if connection.end is None]

    def all_read(self, feeds=range(SERVERS)):
        """Returns whether each has a client which was sent a number."""
        return all(any(client.sent for client in self.clients(feed)) for feed in feeds)

    def gap(self, feed):
        """Returns the seconds between the last two clients."""
        before, after = self.connections[feed][-2:]
        return after.begin - before.end

    def overlaps(self):
        """Returns the clients that came before the one before them was gone."""
        return [
            feed
            for feed, connections in enumerate(self.connections)
            for before, after in zip(connections, connections[1:])
            if before.end is None or after.begin < before.end
        ]


def feed_of(number):
    return number // 6 % SERVERS


def slices():
    """Returns the servers of each shard if the list is cut into slices."""
    return [range(shard * SERVERS // SHARDS, (shard + 1) * SERVERS // SHARDS) for shard in range(SHARDS)]


def program(name):
    """Returns the path of a program, which Debian's packages know with a suffix."""
    return shutil.which(name) or shutil.which(f"{name}-wlm")


def find_programs():
    """Adds the unpacked packages to the environment, unless Slurm is installed."""
    path = [ROOT / "target/release", os.environ["PATH"], "/usr/sbin", "/sbin"]
    if not shutil.which("slurmd", path="/usr/sbin:/usr/bin"):
        path += [UNPACKED / "usr/bin", UNPACKED / "usr/sbin"]
        plugins = unpacked_plugins()
        os.environ["LD_LIBRARY_PATH"] = f"{plugins}:{plugins.parent}"
    os.environ["PATH"] = ":".join(map(str, path))


def unpacked_plugins():
    return next(UNPACKED.glob("usr/lib/*/slurm-wlm"), UNPACKED)


def is_unpacked(path):
    return UNPACKED in Path(path).parents


def start(name, *command):
    """Starts a program, which logs to NAME.log."""
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder
        )
    running.append(process)
    return process


def output_of(*command):
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    return result.stdout if result.returncode == 0 else ""


def do(*command):
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if result.returncode != 0:
        fail(f"{' '.join(map(str, command))}: {result.stdout}{result.stderr}")
    return result.stdout


def start_engine():
    do("ip", "link", "set", "lo", "up")
    # Slurm looks addresses up with AI_ADDRCONFIG, for which 127.0.0.1 alone is no address.
    do("ip", "address", "add", "127.0.0.2/8", "dev", "lo")
    do("hostname", "node")
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o711)
    key = folder / "munge/key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    start(
        *("munge", program("munged"), "--foreground", "--force", f"--key-file={key}"),
        *(f"--{name}-file={folder}/munge/{name}" for name in ("pid", "log", "seed")),
        f"--socket={folder}/munge/socket",
    )
    wait_for("munged has started", (folder / "munge/socket").exists)

    settings = [
        "ClusterName=tcpcore",
        "SlurmctldHost=node(127.0.0.1)",
        "AuthType=auth/munge",
        f"AuthInfo=socket={folder}/munge/socket,cred_expire={CREDENTIAL_SECONDS}",
        "SlurmUser=root",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/slurmd.pid",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "MpiDefault=none",
        "SwitchType=switch/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core",
        # It looks at the queue every second, by default every minute.
        "SchedulerParameters=sched_interval=1",
        "ReturnToService=2",
        "NodeName=node NodeAddr=127.0.0.1 CPUs=2 RealMemory=4096",
        f"PartitionName=test Nodes=node Default=YES OverSubscribe=FORCE:{SHARDS * 2}",
    ]
    slurmd = [program("slurmd"), "-D"]
    if is_unpacked(slurmd[0]):
        settings.append(f"PluginDir={unpacked_plugins()}")
        slurmd += ["-d", program("slurmstepd")]
    configuration = folder / "slurm.conf"
    configuration.write_text("\n".join(settings) + "\n")
    os.environ["SLURM_CONF"] = str(configuration)
    start("slurmctld", program("slurmctld"), "-D", "-c")
    start("slurmd", *slurmd)
    wait_for("the node is idle", lambda: output_of("sinfo", "-h", "-o", "%T").strip() == "idle")


def environment_of(process):
    try:
        if (process / "comm").read_text() != "tcpcore\n":
            return {}
        variables = (process / "environ").read_text().split("\0")
    except OSError:
        return {}
    return dict(variable.split("=", 1) for variable in variables if variable)


def kill_task(variable, shard):
    """Kills the program of a task. The namespace has no other processes than those of this test."""
    processes = [
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and environment_of(process).get(variable) == str(shard)
    ]
    check(f"task {shard} has one process", len(processes) == 1, processes)
    os.kill(processes[0], signal.SIGKILL)


def numbers(records):
    return [int(line) for line in records.read_text().splitlines()]


def records(prefix, shard):
    return folder / f"{prefix}-{shard}.records"


def read_records(prefix):
    return [numbers(records(prefix, shard)) for shard in range(SHARDS)]


def owners(prefix):
    """Returns the servers of each shard, as its records show them."""
    return [sorted({feed_of(number) for number in values}) for values in read_records(prefix)]


def report(what, feeds, ours):
    """Prints for how long these servers were without a client."""
    gaps = [feeds.gap(feed) for feed in ours]
    print(f"     {what}: {min(gaps):.1f} to {max(gaps):.1f} s without a client", flush=True)


def reconnected(what, feeds, ours, cause):
    """Waits until each of these servers has another client than before the cause, and the others the same."""
    before = [connections[-1] for connections in feeds.connections]
    cause()
    wait_for(
        f"{what}: its servers are connected again",
        lambda: all(feeds.connections[feed][-1] is not before[feed] for feed in ours)
        and feeds.all_read(ours),
    )
    report(what, feeds, ours)
    others = set(range(SERVERS)) - set(ours)
    kept = all(feeds.connections[feed][-1] is before[feed] for feed in others)
    check(f"{what}: the others keep their connections", kept and feeds.all_read(others))


def check_union(feeds, prefix, expected, killed):
    """Compares what was sent with what was written: all of it, or up to the end of a connection."""
    feeds.sending = False

    def last_written():
        written = read_records(prefix)
        return all(
            connection.sent[-1] in written[shard][-SERVERS:]
            for shard in range(SHARDS)
            for feed in expected[shard]
            for connection in feeds.clients(feed)
        )

    wait_for("the last numbers are written", last_written)
    written = read_records(prefix)
    found = owners(prefix)
    check("each server has exactly one owner", found == list(map(list, expected)), found)
    check("no server had two clients at once", not feeds.overlaps(), feeds.overlaps())

    total = lost_in_kills = lost_in_stops = 0
    for shard in range(SHARDS):
        for feed in expected[shard]:
            ours = [number for number in written[shard] if feed_of(number) == feed]
            for connection in feeds.connections[feed]:
                sent, known = connection.sent, set(connection.sent)
                received = sum(number in known for number in ours) if connection.end else len(sent)
                if ours[:received] != sent[:received]:
                    pairs = enumerate(zip(ours, sent))
                    fail(f"server {feed}: {next(pair for pair in pairs if pair[1][0] != pair[1][1])}")
                del ours[:received]
                total += len(sent)
                if shard in killed:
                    lost_in_kills += len(sent) - received
                else:
                    lost_in_stops += len(sent) - received
            if ours:
                fail(f"server {feed}: {ours[:10]} are doubled, or were not sent")
    print(
        f"ok   what was sent is written once, in order: {total} numbers\n"
        f"     on their way when a task ended: {lost_in_kills} in killed tasks, {lost_in_stops} in stopped ones;"
        f" while no client was there: {sum(feeds.unsent)}",
        flush=True,
    )


def write_list(feeds=range(SERVERS)):
    # Replaced at once, as it is watched.
    draft = folder / "servers.new"
    draft.write_text("".join(f"127.0.0.1:{FIRST_PORT + feed} name=feed-{feed}\n" for feed in feeds))
    draft.replace(folder / "servers")


def array_of_tasks():
    feeds = Feeds()
    write_list()
    # The waits of a test are shorter.
    answer = do("sbatch", SCRIPT, "--initial-backoff", "100ms", "--max-backoff", "500ms")
    job = re.search(r"Submitted batch job (\d+)", answer)[1]
    wait_for("all servers are connected", feeds.all_read)
    wait_for("all servers are in the records", lambda: sum(map(len, owners("tcpcore"))) == SERVERS)
    expected = owners("tcpcore")
    print(f"     servers of the tasks: {expected}")
    check("each task has three servers", all(len(ours) == 3 for ours in expected))

    def edit_list():
        write_list(range(SERVERS - 1))
        wait_for("a removed server is closed", lambda: not feeds.clients(SERVERS - 1))
        write_list()

    reconnected("the list is edited", feeds, [SERVERS - 1], edit_list)

    def kill():
        kill_task("SLURM_ARRAY_TASK_ID", 2)

    reconnected("task 2 is killed", feeds, expected[2], kill)
    reconnected("task 2 is killed again", feeds, expected[2], kill)
    reconnected("task 2 is killed a third time, and requeued", feeds, expected[2], kill)
    reconnected(
        "task 1 nears its time limit",
        feeds,
        expected[1],
        lambda: do("scancel", "--batch", "--signal=USR1", f"{job}_1"),
    )

    def lose_node():
        do("scontrol", "update", "NodeName=node", "State=DOWN", "Reason=test")
        wait_for("all tasks are stopped", lambda: not any(map(feeds.clients, range(SERVERS))))
        # An error, if the node has answered and so is back already.
        output_of("scontrol", "update", "NodeName=node", "State=RESUME")

    reconnected("the node is lost", feeds, range(SERVERS), lose_node)

    check_union(feeds, "tcpcore", expected, killed=[2])
    do("scancel", "--name", "tcpcore")
    wait_for("scancel ends all tasks", lambda: do("squeue", "-h") == "")
    for shard in range(SHARDS):
        log = (folder / f"tcpcore-{shard}.log").read_text()
        last = [line for line in log.splitlines() if "Totals:" in line or "Connected" in line][-1]
        check(f"task {shard} ended in good order", "Totals:" in last, log)
    feeds.close()


def tasks_of_one_job():
    """srun starts four tasks at once. One that is killed is not started again, and the others go on."""
    feeds = Feeds()
    write_list()
    start(
        *("srun", "srun", "--ntasks", str(SHARDS), "--overcommit", "--output", "srun-%t.records"),
        *("--error", "srun-%t.log", "tcpcore", "--shard", "auto", "-f", "servers"),
    )
    wait_for("srun: all servers are connected", feeds.all_read)
    wait_for("srun: all servers are in the records", lambda: sum(map(len, owners("srun"))) == SERVERS)
    lost = slices()[3]
    kill_task("SLURM_PROCID", 3)
    wait_for("srun: task 3 is gone", lambda: not any(map(feeds.clients, lost)))
    others = range(lost.start)
    before = [len(feeds.connections[feed][-1].sent) for feed in others]
    wait_for(
        "srun: the other tasks go on",
        lambda: all(len(feeds.connections[feed][-1].sent) > before[feed] for feed in others),
    )
    check_union(feeds, "srun", slices(), killed=[3])


def run():
    start_engine()
    array_of_tasks()
    tasks_of_one_job()


def main():
    global folder
    find_programs()
    if sys.argv[1:] != ["--inside"]:
        needed = ["munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "ip", "hostname"]
        missing = [name for name in needed if not program(name)]
        if missing:
            skip(f"there is no {missing[0]}")
        if os.geteuid() != 0 or subprocess.run(["unshare", *NAMESPACES, "true"]).returncode != 0:
            skip("namespaces of its own need root")
        # The end of the namespace ends all its processes.
        command = ["unshare", *NAMESPACES, sys.executable, __file__, "--inside"]
        os.execvp(command[0], command)
    # A request to stop also ends the programs that were started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        folder.chmod(0o711)
        try:
            run()
        except SystemExit:
            for log in sorted(folder.glob("*.log")):
                print(f"---- {log.name}\n{log.read_text()[-4000:]}")
            raise
        finally:
            for process in reversed(running):
                process.terminate()
                process.wait()


main()
