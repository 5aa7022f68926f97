"""A stand-in for cloudflared: the command line and the lines of its quick tunnels, on loopback.

It knows `tunnel --url ssh://…` and `access ssh --hostname …` and nothing else; no edge of Cloudflare's,
no TLS, no websocket, no `ERR` lines but the ones that `refuse` has it say. The bytes go through the
process of the tunnel, so that they end with it.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import socket
import sys
import threading
import time
from pathlib import Path

_REFUSAL = "refusal"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class QuickTunnels:
    """The tunnels of one stand-in, and the program that makes and uses them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._names = folder / "names"
        self._names.mkdir()
        self.program = folder / "cloudflared"
        words = [sys.executable, str(Path(__file__).resolve()), str(self._names)]
        self.program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        self.program.chmod(0o755)

    @property
    def download_url(self) -> str:
        return self.program.as_uri()

    def names(self) -> list[str]:
        """The tunnels that are up."""
        return sorted(path.name for path in self._names.iterdir() if path.name != _REFUSAL)

    def pid(self, name: str) -> int:
        """The process of a tunnel."""
        return int((self._names / name).read_text().split()[1])

    def is_up(self, name: str) -> bool:
        """Its process runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid(name), 0)
            return True
        return False

    def refuse(self, line: str) -> None:
        """Have every new tunnel fail with this line; "" for no more."""
        (self._names / _REFUSAL).write_text(line)


def main(names: Path, words: list[str]) -> int:
    if words[:2] == ["access", "ssh"]:
        return access(names, words[words.index("--hostname") + 1])
    if words[:1] == ["tunnel"]:
        return tunnel(names, words[words.index("--url") + 1])
    print(f"Incorrect Usage: {words}", file=sys.stderr)
    return 1


def tunnel(names: Path, url: str) -> int:
    assert url.startswith("ssh://127.0.0.1:"), url
    say("INF", "Requesting new quick Tunnel on trycloudflare.com...")
    refusal = names / _REFUSAL
    if refusal.exists() and refusal.read_text():
        print(refusal.read_text(), file=sys.stderr)
        return 1
    name = "-".join("".join(random.choices(_LETTERS, k=6)) for _ in range(4)) + ".trycloudflare.com"
    server = socket.create_server(("127.0.0.1", 0))
    place = names / name
    (names.parent / "new").write_text(f"{server.getsockname()[1]} {os.getpid()}")
    (names.parent / "new").rename(place)
    say("INF", "+" + "-" * 92 + "+")
    say("INF", f"|  {'Your quick Tunnel has been created! Visit it at:':<90}|")
    say("INF", f"|  {'https://' + name:<90}|")
    say("INF", "+" + "-" * 92 + "+")
    say("INF", "Registered tunnel connection connIndex=0 location=here protocol=quic")
    try:
        while True:
            connection, _ = server.accept()
            there = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
            join(connection, there)
    finally:
        place.unlink(missing_ok=True)


def access(names: Path, name: str) -> int:
    try:
        port = int((names / name).read_text().split()[0])
        there = socket.create_connection(("127.0.0.1", port))
    except OSError:
        say("ERR", 'failed to connect to origin error="websocket: bad handshake"')
        return 1
    threading.Thread(target=pour, args=(0, there.fileno()), daemon=True).start()
    pour(there.fileno(), 1)
    return 0


def join(one: socket.socket, other: socket.socket) -> None:
    for source, target in ((one, other), (other, one)):
        threading.Thread(target=carry, args=(source, target), daemon=True).start()


def carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        target.close()


def pour(source: int, target: int) -> None:
    try:
        while data := os.read(source, 65536):
            while data:
                data = data[os.write(target, data) :]
    except OSError:
        pass


def say(level: str, text: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{stamp} {level} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
