#!/usr/bin/env python3
"""Checks the man page and the completions with real tools: python3 tests/service/completions.py target/debug/tcpcore

Each shell checks the syntax and completes what is typed. bash and zsh do so on a terminal, and fish by its command
`complete -C`. man and mandoc check the page. A tool that is not installed is named in a line with SKIPPED.
"""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from steps import fail, say

DEADLINE_SECONDS = 60

# What is typed before a tab, and what the shell then inserts or lists.
CASES = [
    ("tcpcore --format j", ["json"]),
    ("tcpcore --format ", ["plain", "task", "tsv", "json"]),
    ("tcpcore --log-format ", ["text", "json"]),
    ("tcpcore --format=j", ["json"]),
    ("tcpcore --once --parall", ["--parallelism"]),
    ("tcpcore --servers-file gat", ["gates.txt"]),
    ("tcpcore -f gat", ["gates.txt"]),
]

# The package bash-completion is not needed.
BASH = ["bash", "--norc", "--noprofile", "-i"]
BASH_SETUP = "bind 'set show-all-if-ambiguous on'; bind 'set enable-bracketed-paste off'; source ./tcpcore.bash"
ZSH = ["zsh", "-f", "-i"]
ZSH_SETUP = "unsetopt auto_menu; fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D"


def check(what, command, **settings):
    """Fails unless the command succeeds. Returns its output."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **settings)
    if done.returncode != 0:
        fail(f"{what}: {done.stdout}")
    say(what)
    return done.stdout


def is_installed(tool):
    if shutil.which(tool):
        return True
    print(f"SKIPPED: {tool} is not installed", flush=True)
    return False


class Terminal:
    """A shell on a terminal of its own, which is ended with the block."""

    def __init__(self, command, folder):
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            environment = {"PATH": os.environ["PATH"], "HOME": folder, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
            os.execvpe(command[0], command, environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)

    def type(self, text):
        os.write(self.terminal, text.encode())

    def wait_for(self, words):
        """Reads until all words are in the output, without colors, bells and movements of the cursor."""
        begin, output = time.monotonic(), b""
        while time.monotonic() - begin < DEADLINE_SECONDS:
            if select.select([self.terminal], [], [], 1)[0]:
                output += os.read(self.terminal, 65536)
                text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|[\x07\x08]", b"", output)
                if all(word.encode() in text for word in words):
                    return
        fail(f"{words} not within {DEADLINE_SECONDS} s: {output}")


def complete_on_terminal(command, setup, folder):
    shell = command[0]
    for typed, expected in CASES:
        with Terminal(command, folder) as terminal:
            # The echo of the command is not its output.
            terminal.type(f"{setup}; echo rea''dy\n")
            terminal.wait_for(["ready"])
            terminal.type(f"{typed}\t")
            terminal.wait_for(expected)
        say(f"{shell}: {typed}<tab> gives {' '.join(expected)}")


def complete_in_fish(folder):
    for typed, expected in CASES:
        script = f"source ./tcpcore.fish; complete -C '{typed}'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", script], cwd=folder, capture_output=True, text=True, timeout=DEADLINE_SECONDS
        )
        offered = [line.split("\t")[0].split("=")[-1] for line in done.stdout.splitlines()]
        if sorted(offered) != sorted(expected):
            fail(f"fish: {typed} gives {offered}, expected {expected}: {done.stderr}")
        say(f"fish: {typed}<tab> gives {' '.join(expected)}")


def check_page(page):
    if is_installed("man"):
        command = ["man", "--warnings", "--encoding=UTF-8", "--local-file", "--troff-device=utf8", "--ditroff", page]
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"}
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
        if done.returncode != 0 or done.stderr:
            fail(f"man: {done.stderr}")
        say("man has no warning")
    if is_installed("mandoc"):
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True)
        # A date would change the page without a change of its text.
        found = [line for line in done.stdout.splitlines() if "missing date" not in line]
        if found:
            fail("mandoc: " + "\n".join(found))
        say("mandoc has no warning")


def main():
    program = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        names = {"man": "tcpcore.1", "bash": "tcpcore.bash", "zsh": "_tcpcore", "fish": "tcpcore.fish"}
        for kind, name in names.items():
            text = subprocess.run([program, "--generate", kind], check=True, capture_output=True).stdout
            Path(folder, name).write_bytes(text)
        Path(folder, "gates.txt").touch()
        check_page(Path(folder, "tcpcore.1"))
        if is_installed("bash"):
            check("bash -n", ["bash", "-n", "tcpcore.bash"], cwd=folder)
            complete_on_terminal(BASH, BASH_SETUP, folder)
        if is_installed("zsh"):
            check("zsh -n", ["zsh", "-n", "_tcpcore"], cwd=folder)
            complete_on_terminal(ZSH, ZSH_SETUP, folder)
        if is_installed("fish"):
            check("fish --no-execute", ["fish", "--no-execute", "tcpcore.fish"], cwd=folder)
            complete_in_fish(folder)


main()
