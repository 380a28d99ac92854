#!/usr/bin/env python3
"""Checks that the static program resolves names: python3 tests/service/static.py PROGRAM

The program reads a feed by a name of /etc/hosts, and by a name that a server of DNS answers. Both are in network and
mount namespaces that the test makes, so it needs root, or else exits with 77, as skipped.
"""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from steps import fail, say, skip

DEADLINE_SECONDS = 60
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
TYPE_A = 1

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)


def enter_namespaces():
    """Leaves this process with a loopback interface alone, and with mounts that no other process sees."""
    call("unshare", CLONE_NEWNS | CLONE_NEWNET)
    call("mount", b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def replace(path, text, folder):
    """Shows another text in place of a file, to this process and its children."""
    copy = Path(folder, Path(path).name)
    copy.write_text(text)
    call("mount", bytes(copy), os.path.realpath(path).encode(), None, ctypes.c_ulong(MS_BIND), None)


def answer(query):
    """Answers a question for an address of IPv4 with 127.0.0.1, and any other with no records."""
    end = 12
    while query[end]:
        end += query[end] + 1
    kind = struct.unpack(">H", query[end + 1 : end + 3])[0]
    is_known = query[12:end] == b"\4feed\4test"
    found = is_known and kind == TYPE_A
    # An answer with recursion. An unknown name is an error (3).
    flags = 0x8180 if is_known else 0x8183
    reply = query[:2] + struct.pack(">HHHHH", flags, 1, int(found), 0, 0) + query[12 : end + 5]
    if found:
        reply += b"\xc0\x0c" + struct.pack(">HHIH4B", TYPE_A, 1, 60, 4, 127, 0, 0, 1)
    return reply


def serve_names(server, asked):
    while True:
        query, client = server.recvfrom(512)
        asked.append(query)
        server.sendto(answer(query), client)


def serve_numbers(listener):
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"5\n12\n")


def read(program, server):
    command = [program, "--once", "--connect-timeout", "20s", server]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS)


def main():
    program = Path(sys.argv[1]).resolve()
    if os.geteuid() != 0:
        skip("this is not root")
    if b"/ld-" in program.read_bytes()[:4096]:
        fail("the program asks for a dynamic loader")
    say("the program asks for no dynamic loader")
    try:
        enter_namespaces()
    except OSError as error:
        skip(f"there are no namespaces: {error}")

    with tempfile.TemporaryDirectory() as folder:
        replace("/etc/hosts", "127.0.0.1 localhost gate.test\n", folder)
        replace("/etc/resolv.conf", "nameserver 127.0.0.1\n", folder)
        names = socket.socket(type=socket.SOCK_DGRAM)
        names.bind(("127.0.0.1", 53))
        asked = []
        threading.Thread(target=serve_names, args=(names, asked), daemon=True).start()
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=serve_numbers, args=(listener,), daemon=True).start()

        port = listener.getsockname()[1]
        for name, is_asked in [("localhost", False), ("gate.test", False), ("feed.test", True)]:
            asked.clear()
            done = read(program, f"{name}:{port}")
            if (done.returncode, done.stdout, bool(asked)) != (0, "12\n", is_asked):
                fail(f"{name}: {done}, {len(asked)} queries")
            say(f"{name} is resolved by {'DNS' if is_asked else '/etc/hosts'}")
        done = read(program, f"absent.test:{port}")
        if done.returncode != 1 or "absent.test" not in done.stderr:
            fail(f"absent.test: {done}")
        say("a name that DNS does not know is an error")


main()
