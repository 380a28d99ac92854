#!/usr/bin/env python3
"""Checks the metrics and the alert with Prometheus: python3 tests/service/prometheus.py

It runs the release programs with two feeds, lets Prometheus scrape them, kills a feed and restarts it. It needs
`cargo build --release`, and `prometheus` and `promtool` in the path. Without these two it exits with 77, as skipped.
"""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import steps
from steps import fail, say, skip

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
DEADLINE_SECONDS = 60

folder = None
running = []


def start(name, *command):
    """Starts a program, which logs to NAME.log, and returns it with the path of its log."""
    log = folder / f"{name}.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, cwd=folder
        )
    running.append(process)
    return process, log


def kill(process):
    process.kill()
    process.wait()
    running.remove(process)


def wait_for(what, attempt):
    """Returns the first value of `attempt` that is true. An answer that is still missing counts as false."""

    def answered():
        try:
            return attempt()
        except (urllib.error.URLError, ConnectionError):
            return None

    return steps.wait_for(what, answered, DEADLINE_SECONDS)


def logged(process, log, pattern):
    def attempt():
        if process.poll() is not None:
            fail(f"{log.stem} ended: {log.read_text()}")
        return re.search(pattern, log.read_text())

    return wait_for(f"{log.stem} has started", attempt)[1]


def start_feed(name, port):
    process, log = start(
        name, ROOT / "target/release/demo-server", "--interval", "50ms", str(port)
    )
    return process, logged(process, log, r"Listening on 127\.0\.0\.1:(\d+)")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=5) as response:
        return response.read()


def check(what, *command, **settings):
    if subprocess.run(command, **settings).returncode != 0:
        fail(what)
    say(what)


class Prometheus:
    def __init__(self, target, rules):
        config = folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: [{json.dumps(str(rules))}]\n"
            "scrape_configs:\n"
            f'  - {{job_name: tcpcore, static_configs: [{{targets: ["{target}"]}}]}}\n'
        )
        address = f"127.0.0.1:{free_port()}"
        self.api = f"http://{address}/api/v1"
        start(
            "prometheus",
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        )

    def query(self, expression):
        """Returns the value of the only series, if there is one."""
        url = f"{self.api}/query?" + urllib.parse.urlencode({"query": expression})
        series = json.loads(get(url))["data"]["result"]
        return float(series[0]["value"][1]) if len(series) == 1 else None

    def firing(self):
        """Returns the servers whose alert is firing."""
        alerts = json.loads(get(f"{self.api}/alerts"))["data"]["alerts"]
        return [
            alert["labels"]["server"]
            for alert in alerts
            if alert["labels"]["alertname"] == "TcpcoreServerDown" and alert["state"] == "firing"
        ]


def run():
    check("promtool accepts the alerts", "promtool", "check", "rules", ALERTS)
    # The test does not wait three minutes.
    rules = folder / "alerts.yml"
    rules.write_text(ALERTS.read_text().replace("for: 3m", "for: 0s"))
    assert "for: 0s" in rules.read_text()

    _, first = start_feed("gate-1", 0)
    feed, second = start_feed("gate-2", 0)
    servers = folder / "servers.txt"
    servers.write_text(f"127.0.0.1:{first} name=gate-1\n127.0.0.1:{second} name=gate-2\n")
    tcpcore, log = start(
        "tcpcore",
        *(ROOT / "target/release/tcpcore", "-f", servers, "--status-addr", "127.0.0.1:0"),
        *("--initial-backoff", "200ms", "--max-backoff", "500ms"),
    )
    target = logged(tcpcore, log, r"Status on http://([^/]+)/")
    metrics = get(f"http://{target}/metrics")
    check("promtool accepts the metrics", "promtool", "check", "metrics", input=metrics)

    prometheus = Prometheus(target, rules)
    connected = 'tcpcore_servers{state="connected"}'
    lines = 'tcpcore_server_received_lines_total{server="gate-2"}'
    wait_for("the program is scraped", lambda: prometheus.query("up") == 1)
    wait_for("both servers are connected", lambda: prometheus.query(connected) == 2)
    before = wait_for("lines are received", lambda: prometheus.query(lines))
    wait_for("their number grows", lambda: (prometheus.query(lines) or 0) > before)
    wait_for("no alert is firing", lambda: prometheus.firing() == [])

    kill(feed)
    wait_for("the alert of the lost server is firing", lambda: prometheus.firing() == ["gate-2"])
    wait_for("one server is connected", lambda: prometheus.query(connected) == 1)
    before = prometheus.query(lines)
    start_feed("gate-2", second)
    wait_for("the alert is resolved", lambda: prometheus.firing() == [])
    wait_for("both servers are connected again", lambda: prometheus.query(connected) == 2)
    wait_for("lines are received again", lambda: (prometheus.query(lines) or 0) > before)


def main():
    global folder
    if not shutil.which("prometheus") or not shutil.which("promtool"):
        skip("there is no prometheus or no promtool")
    # A request to stop also ends the programs that were started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        try:
            run()
        finally:
            for process in list(running):
                kill(process)


main()
