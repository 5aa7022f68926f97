"""The agent's request loop: one request at a time from stdin, one answer each on stdout.

It ends when stdin does, which is when nobody can ask any more.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
import traceback
from typing import Any, BinaryIO, Callable, Dict, Iterator, Tuple

from . import checkup, jobs, lease, machine, mirrors, probe, sync, wire, workdir
from .refusal import Refusal

Answer = Tuple[Dict[str, Any], bytes]
Handler = Callable[[Dict[str, Any], bytes], Answer]
Stream = Callable[[Dict[str, Any], bytes], Iterator[Answer]]
Conversation = Callable[[Dict[str, Any], sync.Upload, Callable[[Answer], None]], None]


def answer_ping(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Give back what came, to measure the way here."""
    return arguments, body


def answer_prepare(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Make the work dir; done twice it is done once."""
    path = str(arguments["workdir"])
    workdir.make(path)
    mirrors.wake(path, arguments.get("drive_dir"))
    return {"workdir": path}, b""


def answer_probe(arguments: Dict[str, Any], body: bytes) -> Answer:
    """What this machine is and has."""
    return probe.facts(), b""


def answer_checkup(arguments: Dict[str, Any], body: bytes) -> Answer:
    """How this machine stands."""
    places = dict(arguments.get("places") or {})
    return checkup.look({str(name): str(path) for name, path in places.items()}), b""


def _later(module: str, name: str) -> Callable[..., Any]:
    """A handler whose module is loaded when somebody asks for it: what knows of zips and tars would
    double the time that an agent takes to start."""

    def handle(*arguments: Any) -> Any:
        return getattr(importlib.import_module("." + module, __package__), name)(*arguments)

    return handle


HANDLERS: Dict[str, Handler] = {
    "archive.list": _later("shelf", "answer_list"),
    "checkpoint.confirm": _later("checkpoints", "answer_confirm"),
    "checkpoint.lead": _later("asking", "answer_lead"),
    "checkpoint.list": _later("checkpoints", "answer_list"),
    "checkpoint.manifest": _later("checkpoints", "answer_manifest"),
    "checkpoint.prune": _later("checkpoints", "answer_prune"),
    "checkpoint.received": _later("receiving", "answer_received"),
    "checkpoint.token": _later("credentials", "answer_token"),
    "checkup": answer_checkup,
    "data.commit": _later("datasets", "commit"),
    "data.list": _later("datasets", "answer_list"),
    "drive.look": _later("mounts", "answer_look"),
    "editor.restore": _later("editor_servers", "answer_restore"),
    "environment.restore": _later("warm_start", "answer_restore"),
    "job.claim": _later("claiming", "answer_claim"),
    "job.list": jobs.answer_list,
    "job.prune": _later("news", "answer_prune"),
    "job.records": _later("news", "answer_records"),
    "job.signal": jobs.answer_signal,
    "job.status": jobs.answer_status,
    "job.stop": jobs.answer_stop,
    "lease.keep": lease.answer_keep,
    "lease.status": lease.answer_status,
    "mirror.status": mirrors.answer_status,
    "ping": answer_ping,
    "prepare": answer_prepare,
    "probe": answer_probe,
    "sync.find": sync.find,
    "sync.offer": sync.offer,
    "tunnel.close": _later("tunnels", "close"),
}


STREAMS: Dict[str, Stream] = {
    "archive.fetch": _later("shelf", "fetch"),
    "checkpoint.fetch": _later("checkpoints", "fetch"),
    "checkpoint.push": _later("checkpoints", "push"),
    "checkpoint.restore": _later("restoring", "restore"),
    "checkpoint.save": _later("asking", "save"),
    "checkpoint.stored": _later("restoring", "stored"),
    "checkpoint.verify": _later("checkpoints", "verify"),
    "data.check": _later("datasets", "check"),
    "data.pull": _later("pull", "pull"),
    "job.code": _later("code_requests", "send"),
    "job.follow": jobs.follow_log,
    "job.kept": _later("kept_jobs", "fetch"),
    "job.news": _later("news", "wait"),
    "job.start": jobs.start,
    "mirror.flush": mirrors.flush,
    "sessions.follow": _later("sessions", "follow"),
    "sync.fetch": sync.fetch,
    "tunnel.hold": _later("tunnels", "hold"),
}
"""The requests that are answered by any number of frames."""

UPLOADS: Dict[str, Callable[[Dict[str, Any], sync.Upload], Answer]] = {
    "checkpoint.receive": _later("receiving", "receive"),
    "data.put": _later("datasets", "put"),
    "job.receive_code": _later("code_requests", "receive"),
    "sync.apply": sync.apply,
}
"""The requests that are followed by any number of frames."""

CONVERSATIONS: Dict[str, Conversation] = {
    "job.input": jobs.carry_input,
    "sync.watch": _later("watching", "watch"),
}
"""The requests that are followed and answered by any number of frames, until the client goes."""

COMPARISONS: Dict[str, Callable[[sync.Comparing, Dict[str, Any], bytes], Iterator[Answer]]] = {
    "sync.compare": sync.Comparing.compare,
    "sync.push": sync.Comparing.push,
}
"""The requests for which it counts what was asked before."""

_SYNC = "sync."
"""After one of these the files may be others; Drive gets them at once."""


def answers(
    header: Dict[str, Any],
    body: bytes,
    upload: sync.Upload,
    send: Callable[[Answer], None],
    comparing: sync.Comparing,
) -> Iterator[Answer]:
    """The answer to one request; a failure is an answer too, so that the loop goes on."""
    kind = str(header.get("request"))
    arguments = dict(header.get("arguments") or {})
    try:
        if kind in CONVERSATIONS:
            CONVERSATIONS[kind](arguments, upload, send)
        elif kind in STREAMS:
            yield from STREAMS[kind](arguments, body)
        elif kind in COMPARISONS:
            yield from COMPARISONS[kind](comparing, arguments, body)
        else:
            yield _one_answer(kind, arguments, body, upload)
        if kind.startswith(_SYNC):
            # Answered already: nobody waits for this.
            mirrors.wake(str(arguments["workdir"]), arguments.get("drive_dir"))
    except Refusal as exc:
        yield _failure(exc.kind, exc.message, hint=exc.hint)
    except wire.WireError:
        raise  # The stream itself is broken: nobody can be answered.
    except OSError as exc:
        yield _failure("os", str(exc), errno=exc.errno)
    except Exception:  # noqa: BLE001  The loop is a boundary: a bug is reported, not hung up on.
        yield _failure("bug", traceback.format_exc())


def _one_answer(kind: str, arguments: Dict[str, Any], body: bytes, upload: sync.Upload) -> Answer:
    if kind in UPLOADS:
        return UPLOADS[kind](arguments, upload)
    if kind in HANDLERS:
        return HANDLERS[kind](arguments, body)
    return _failure("unknown_request", "this agent knows no request {!r}".format(kind))


def _failure(kind: str, message: str, **details: Any) -> Answer:
    return {"error": dict(details, type=kind, message=message)}, b""


def serve(requests: BinaryIO, outlet: BinaryIO) -> None:
    """Say hello, then answer until `requests` ends."""
    hello = {
        "protocol": wire.PROTOCOL,
        "python": platform.python_version(),
        "pid": os.getpid(),
    }
    _send(outlet, hello, b"")
    comparing = sync.Comparing()
    while True:
        frame = wire.read_frame(requests.read)
        if frame is None:
            return
        if frame[0].get("request") not in COMPARISONS:
            comparing.forget()
        upload = sync.Upload(requests.read)
        for answer in answers(*frame, upload, lambda answer: _send(outlet, *answer), comparing):
            _send(outlet, *answer)
        if frame[0].get("request") in UPLOADS:
            upload.skip_rest()


def _send(outlet: BinaryIO, header: Dict[str, Any], body: bytes) -> None:
    outlet.write(wire.encode(header, body))
    outlet.flush()


def main() -> int:
    """The entry point."""
    machine.take_environment()
    lease.show_presence()
    lease.revive()
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
