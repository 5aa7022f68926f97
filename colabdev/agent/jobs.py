"""The requests about jobs: starting them, saying how they stand, sending their logs, stopping them."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from . import cursors, follow, inlet, jobdir, lease, processes, stopping, wire
from .jobdir import JobFiles
from .launch import Source, launch
from .refusal import Refusal
from .states import describe
from .sync import Upload

Answer = Tuple[Dict[str, Any], bytes]

_POLL_S = 0.02
_INLET_TIMEOUT_S = 5.0


def start(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """Start the job of `spec` unless it was started before; then, if asked to, follow it.

    With `expect` (marker and maybe tree) only when the work dir is that project's, and its files are
    that tree: so nobody needs to ask first, and what did not change is started in one round trip. With
    `code` it is started from that tree's archive, as a later attempt is (`launch.Source`). With
    `lease` the machine is given back when it has ended; that is written down before it starts.
    """
    spec = dict(arguments["spec"])
    files = files_of(spec["id"])
    if arguments.get("lease"):
        lease.end_with(files.id, dict(arguments["lease"]))
    try:
        expect, code = dict(arguments.get("expect") or {}), arguments.get("code")
        if code is not None:
            expect = {key: value for key, value in expect.items() if key == "marker"}
        source = Source(expect, code)
        launch(spec, dict(arguments.get("env") or {}), files, source)
    except (OSError, Refusal):
        if arguments.get("lease") and not os.path.exists(files.spec):
            lease.forget(files.id)
        raise
    yield {"id": files.id}, b""
    if arguments.get("follow"):
        yield from follow.frames(files, 0, describe, wait=True)


def follow_log(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """The log from `offset` on; see `follow.frames`."""
    files = existing(arguments["id"])
    here = (jobdir.read_document(files.spec) or {}).get("attempt", jobdir.FIRST_ATTEMPT)
    if arguments.get("attempt", here) != here:
        raise Refusal("the job {!r} has no such attempt here, but {}".format(files.id, here))
    offset = int(arguments.get("offset", 0))
    yield from follow.frames(files, offset, describe, wait=bool(arguments.get("wait", True)))


def carry_input(arguments: Dict[str, Any], upload: Upload, send: Callable[[Answer], None]) -> None:
    """Join a client and its job's inlet (see there), frame by frame, until the client goes.

    What the inlet says is passed on; `{"closed": true}` is the last of it, because the job has ended
    (`ended` says whether) or because its supervisor was killed.
    """
    files = existing(arguments["id"])
    connection = _connection(files)
    if connection is None:
        send(({"closed": True, "ended": True}, b""))
        return
    with connection:
        connection.sendall(wire.encode({"client": str(arguments["client"])}))
        listener = threading.Thread(target=_pass_answers_on, args=(files, connection, send))
        listener.start()
        try:
            while True:
                frame = upload.next_frame()
                with suppress(OSError):  # The listener says that the inlet has gone.
                    connection.sendall(wire.encode(*frame))
        except wire.Truncated:
            return  # The client has gone.
        finally:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            listener.join()


def _pass_answers_on(
    files: JobFiles, connection: socket.socket, send: Callable[[Answer], None]
) -> None:
    try:
        with suppress(OSError, wire.WireError), connection.makefile("rb") as answers:
            while True:
                frame = wire.read_frame(answers.read)
                if frame is None:
                    break
                send(frame)
        send(({"closed": True, "ended": describe(files)["state"] in jobdir.ENDED_STATES}, b""))
    except (OSError, jobdir.Unreadable):
        return  # The client has gone, or will ask how the job stands and hear it.


def _connection(files: JobFiles) -> Optional[socket.socket]:
    """To the job's inlet; None when the job has ended. A Refusal when it has none."""
    deadline = time.monotonic() + _INLET_TIMEOUT_S
    while True:
        connection = inlet.connect(files)
        if connection is not None:
            return connection
        told = describe(files)
        if told["state"] in jobdir.ENDED_STATES:
            return None
        if not told["pty"] and told["stdin"] == jobdir.NO_INPUT:
            raise Refusal("cannot type into {!r}: it has no terminal and no stdin".format(files.id))
        if time.monotonic() >= deadline:
            raise Refusal("cannot type into {!r}: nobody takes it there".format(files.id))
        time.sleep(_POLL_S)


def answer_list(arguments: Dict[str, Any], body: bytes) -> Answer:
    """Every job of this machine; what cannot be read is named."""
    told, problems = [], []
    place = root()
    for name in sorted(os.listdir(place)) if os.path.isdir(place) else []:
        if jobdir.is_job_id(name):
            try:
                told.append(describe(JobFiles(os.path.join(place, name))))
            except (OSError, jobdir.Unreadable) as exc:
                problems.append({"id": name, "reason": str(exc)})
    return {"jobs": told, "problems": problems}, b""


def answer_status(arguments: Dict[str, Any], body: bytes) -> Answer:
    """One job. Asked for `tail` (lines) or `since_s` (seconds ago), `begin` says where in its log those
    begin; of both the later one."""
    files = existing(arguments["id"])
    status = describe(files)
    begins = [0]
    if arguments.get("tail") is not None:
        with open(files.log, "rb") as log:
            lines = int(arguments["tail"])
            begins.append(cursors.offset_of_last_lines(log, status["log_bytes"], lines))
    if arguments.get("since_s") is not None:
        with suppress(FileNotFoundError), open(files.events, "rb") as events:
            moment = time.time() - float(arguments["since_s"])
            begins.append(cursors.offset_since(events, moment))
    return {"status": status, "begin": max(begins)}, b""


def answer_stop(arguments: Dict[str, Any], body: bytes) -> Answer:
    """The signal to the command's group, after the grace KILL to all of the job; the status then."""
    files = existing(arguments["id"])
    grace_s = float(arguments.get("grace_s", jobdir.DEFAULT_GRACE_S))
    number = _signal_number(arguments.get("signal", jobdir.DEFAULT_SIGNAL))
    stopping.stop(files, grace_s, number)
    return {"status": describe(files)}, b""


def answer_signal(arguments: Dict[str, Any], body: bytes) -> Answer:
    """The signal to the command's group, and no more; the status afterwards."""
    files = existing(arguments["id"])
    number = _signal_number(arguments["signal"])
    pid = jobdir.read_document(files.pid)
    if pid is not None:
        processes.send(pid["command"], pid["boot_id"], number, group=True)
    return {"status": describe(files)}, b""


def _signal_number(name: object) -> int:
    try:
        return signal.Signals["SIG{}".format(name)]
    except KeyError:
        raise Refusal("the runtime has no signal {!r}".format(name), "--signal INT") from None


def existing(job_id: object) -> JobFiles:
    """The job of that id, which must be there; a Refusal says that it is not."""
    files = files_of(job_id)
    if not os.path.exists(files.spec):
        raise Refusal("the runtime has no job {!r}".format(job_id), "colabdev ps")
    return files


def files_of(job_id: object) -> JobFiles:
    """The place of a job of that id; a Refusal when it is none."""
    if not isinstance(job_id, str) or not jobdir.is_job_id(job_id):
        raise Refusal("{!r} is no job id".format(job_id), "colabdev ps")
    return JobFiles(os.path.join(root(), job_id))


def root() -> str:
    """Where this machine keeps its jobs."""
    return jobdir.jobs_directory(os.path.expanduser("~"))
