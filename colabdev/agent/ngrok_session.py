"""One session of ngrok's SDK, as a process: the SDK has threads that nobody should have in his own.

`python3 <agent> ngrok-session`, started by `tunnel.Supervisor`, by whose rules it speaks.
Settings: `port` of the SSH server here, `allow` (networks; none: everybody), `url` (a reserved HOST:PORT
or null), `metadata`, `server` (null: ngrok's own) with its certificates `ca`, `beat_s`, `tolerance_s`.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import sys
import threading
from typing import Any, Callable, Dict, List, NoReturn

Opened = Callable[[Dict[str, Any]], None]
"""Told host and port of the endpoint."""

_CODE = re.compile(r"ERR_NGROK_([0-9]+)")


def main(arguments: List[str]) -> int:
    """Hold the session until stdin ends. Never returns: the SDK's threads abort an interpreter that
    ends while a session lives."""
    told = json.loads(sys.stdin.buffer.readline().decode("ascii"))
    threading.Thread(target=end_with_stdin, daemon=True).start()
    try:
        ngrok = importlib.import_module("ngrok")
        run(ngrok, told["settings"], told["secret"], lambda end: say({"endpoint": end}))
    except (ImportError, ValueError, OSError) as exc:
        fail(exc)
    os._exit(1)


def run(ngrok: Any, settings: Dict[str, Any], token: str, opened: Opened) -> None:
    """Hold a session, and tell `opened` where it ends. Raises what the SDK does."""
    asyncio.run(_hold(ngrok, settings, token, opened))


def fail(exc: BaseException) -> NoReturn:
    """Say why, and end."""
    # The SDK's errors are ValueErrors of what it did, ngrok's words, and a code where there is one.
    words = ": ".join(str(word) for word in exc.args)
    code = _CODE.search(words)
    say({"failed": words, "code": code.group(1) if code else ""})
    os._exit(1)


async def _hold(ngrok: Any, settings: Dict[str, Any], token: str, opened: Opened) -> None:
    builder = (
        ngrok.SessionBuilder()
        .authtoken(token)
        .metadata(settings["metadata"])
        .heartbeat_interval(settings["beat_s"])
        .heartbeat_tolerance(settings["tolerance_s"])
        .handle_heartbeat(_beat)
        .handle_disconnection(_lost)
    )
    if settings.get("server"):
        builder = builder.server_addr(settings["server"])
    if settings.get("ca"):
        builder = builder.ca_cert(bytearray(settings["ca"].encode("ascii")))
    session = await builder.connect()
    endpoint = session.tcp_endpoint().metadata(settings["metadata"])
    for network in settings["allow"]:
        endpoint = endpoint.allow_cidr(network)
    if settings.get("url"):
        endpoint = endpoint.remote_addr(settings["url"])
    # Not localhost, which may be ::1.
    listener = await endpoint.listen_and_forward("tcp://127.0.0.1:{}".format(settings["port"]))
    host, _, port = listener.url().rpartition("//")[2].rpartition(":")
    opened({"host": host, "port": int(port)})
    await asyncio.Event().wait()


def _beat(*latency: Any) -> None:
    """Called with nothing when a beat was missed. What it raises would end the beats without a word."""
    if latency and latency[0] is not None:
        say({"beat": True})


def _lost(address: Any, error: Any) -> None:
    """Called before each try to come back."""
    say({"lost": str(error or "the connection to {} was cut".format(address))})


def say(words: Dict[str, Any]) -> None:
    """A line to the supervisor."""
    try:
        os.write(1, json.dumps(words).encode("ascii") + b"\n")
    except OSError:
        os._exit(1)  # Nobody listens any more.


def end_with_stdin() -> None:
    """End at once when the supervisor wants that, or has died."""
    while os.read(0, 1024):
        pass
    os._exit(0)
