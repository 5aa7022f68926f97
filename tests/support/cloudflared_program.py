"""A stand-in for cloudflared: the command line and the lines of its quick tunnels, on loopback.

It knows `tunnel --url ssh://…` and `access ssh --hostname …` and nothing else: no edge of Cloudflare's,
no TLS, no websocket. The bytes go through the process of the tunnel, so that they end with it.
`tests/support/cloudflared.py` hands it out.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import urllib.parse
import urllib.request
from typing import Any

_EDGE = "@EDGE@"


def main(words: list[str]) -> int:
    if words[:2] == ["access", "ssh"]:
        return access(words[words.index("--hostname") + 1])
    if words[:1] == ["tunnel"]:
        return tunnel(words[words.index("--url") + 1])
    say("ERR", f"Incorrect Usage: {words}")
    return 1


def tunnel(url: str) -> int:
    assert url.startswith("ssh://127.0.0.1:"), url
    say("INF", "Requesting new quick Tunnel on trycloudflare.com...")
    server = socket.create_server(("127.0.0.1", 0))
    made = ask("open", port=server.getsockname()[1], pid=os.getpid())
    if "refusal" in made:
        print(made["refusal"], file=sys.stderr)
        return 1
    say("INF", "+" + "-" * 92 + "+")
    say("INF", f"|  {'Your quick Tunnel has been created! Visit it at:':<90}|")
    say("INF", f"|  {'https://' + made['name']:<90}|")
    say("INF", "+" + "-" * 92 + "+")
    say("INF", "Registered tunnel connection connIndex=0 location=here protocol=quic")
    while True:
        connection, _ = server.accept()
        join(connection, socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))))


def access(name: str) -> int:
    try:
        there = socket.create_connection(("127.0.0.1", ask("find", name=name)["port"]))
    except (OSError, KeyError):
        say("ERR", 'failed to connect to origin error="websocket: bad handshake"')
        return 1
    threading.Thread(target=pour, args=(0, there.fileno()), daemon=True).start()
    pour(there.fileno(), 1)
    return 0


def ask(what: str, **arguments: object) -> dict[str, Any]:
    query = urllib.parse.urlencode(arguments)
    with urllib.request.urlopen(f"{_EDGE}/{what}?{query}", timeout=20) as answer:
        told: dict[str, Any] = json.load(answer)
        return told


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
    sys.exit(main(sys.argv[1:]))
