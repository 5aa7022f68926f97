"""The agent's request loop: one request at a time from stdin, one answer each on stdout.

It ends when stdin does, which is when nobody can ask any more.
"""

from __future__ import annotations

import os
import platform
import sys
import traceback
from typing import Any, BinaryIO, Callable, Dict, Tuple

from . import probe, wire

Answer = Tuple[Dict[str, Any], bytes]
Handler = Callable[[Dict[str, Any], bytes], Answer]


def answer_ping(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Give back what came, to measure the way here."""
    return arguments, body


def answer_prepare(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Make the work dir; done twice it is done once."""
    workdir = str(arguments["workdir"])
    os.makedirs(os.fsencode(workdir), exist_ok=True)
    return {"workdir": workdir}, b""


def answer_probe(arguments: Dict[str, Any], body: bytes) -> Answer:
    """What this machine is and has."""
    return probe.facts(), b""


HANDLERS: Dict[str, Handler] = {
    "ping": answer_ping,
    "prepare": answer_prepare,
    "probe": answer_probe,
}


def answer(header: Dict[str, Any], body: bytes) -> Answer:
    """The answer to one request; a failure is an answer too, so that the loop goes on."""
    kind = header.get("request")
    handler = HANDLERS.get(str(kind))
    if handler is None:
        return _failure("unknown_request", "this agent knows no request {!r}".format(kind))
    try:
        return handler(dict(header.get("arguments") or {}), body)
    except OSError as exc:
        return _failure("os", str(exc), errno=exc.errno)
    except Exception:  # noqa: BLE001  The loop is a boundary: a bug is reported, not hung up on.
        return _failure("bug", traceback.format_exc())


def _failure(kind: str, message: str, **details: Any) -> Answer:
    return {"error": dict(details, type=kind, message=message)}, b""


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Say hello, then answer until `requests` ends."""
    hello = {
        "protocol": wire.PROTOCOL,
        "python": platform.python_version(),
        "pid": os.getpid(),
    }
    _send(answers, hello, b"")
    while True:
        frame = wire.read_frame(requests.read)
        if frame is None:
            return
        _send(answers, *answer(*frame))


def _send(answers: BinaryIO, header: Dict[str, Any], body: bytes) -> None:
    answers.write(wire.encode(header, body))
    answers.flush()


def main() -> int:
    """The zipapp's entry point."""
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except (wire.WireError, BrokenPipeError, ConnectionError) as exc:
        # The other side went away in the middle of a frame: nobody is left to tell but the log.
        sys.stderr.write("agent: {}\n".format(exc))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # The final flush must not fail again.
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
