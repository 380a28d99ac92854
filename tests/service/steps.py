"""Prints the steps of a test of this folder, and ends the test: passed, failed, or skipped as it cannot run here."""

import sys
import time

# The exit status of a test that cannot run on this machine.
SKIPPED = 77


def say(what):
    print(f"ok   {what}", flush=True)


def fail(what):
    raise SystemExit(f"FAIL {what}")


def skip(reason):
    print(f"SKIPPED: {reason}", flush=True)
    sys.exit(SKIPPED)


def check(what, condition, found=""):
    if not condition:
        fail(f"{what}: {found}")
    say(what)


def wait_for(what, attempt, seconds):
    """Returns the first value of `attempt` that is true. Fails if there is none within these seconds."""
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        value = attempt()
        if value:
            say(f"{what} ({time.monotonic() - begin:.1f} s)")
            return value
        time.sleep(0.05)
    fail(f"{what}: not within {seconds} s")
