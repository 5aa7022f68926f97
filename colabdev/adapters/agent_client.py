"""Starting an agent on a runtime, and asking it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from colabdev.agent import wire
from colabdev.errors import AgentUnusable, ColabdevError, NoCode, ProtocolError, StaleTree
from colabdev.models import AgentHello, Output
from colabdev.ports import RemoteProcess

if TYPE_CHECKING:
    from colabdev.adapters.agent_archive import AgentArchive

log = logging.getLogger(__name__)

_WORK = {
    "checkpoint.confirm": "write down that a checkpoint is here",
    "checkpoint.fetch": "send a checkpoint",
    "checkpoint.list": "say how its checkpoints stand",
    "checkpoint.manifest": "send a checkpoint's manifest",
    "checkpoint.prune": "remove old checkpoints",
    "checkpoint.push": "make a checkpoint safe",
    "checkpoint.receive": "take a checkpoint",
    "checkpoint.received": "say how much of a checkpoint it has",
    "checkpoint.restore": "restore a checkpoint",
    "checkpoint.stored": "say which checkpoints are on Drive",
    "checkpoint.verify": "verify its checkpoints",
    "checkup": "say how it stands",
    "job.claim": "claim the next attempt of the job",
    "job.code": "send the job's code",
    "job.input": "take input for the job",
    "job.follow": "read the job's log",
    "job.list": "list its jobs",
    "job.news": "say what is new of its jobs",
    "job.prune": "remove old jobs",
    "job.receive_code": "take the job's code",
    "job.records": "give the job's records",
    "job.start": "start the job",
    "job.status": "say how the job stands",
    "job.stop": "stop the job",
    "prepare": "make the work dir",
    "probe": "say what it has",
    "sync.apply": "change the work dir",
    "sync.compare": "look at the work dir",
    "sync.offer": "note what is brought home",
    "sync.watch": "watch the work dir",
}
"""What a request asks for, in words."""

START_TIMEOUT_S = 60.0

_MARKER = b"colabdev-agent "
_NOISE_BYTES = 64 * 1024
_TAIL_BYTES = 2000

ProcessT = TypeVar("ProcessT", bound=RemoteProcess)
ProcessT_co = TypeVar("ProcessT_co", bound=RemoteProcess, covariant=True)


class Opens(Protocol[ProcessT_co]):
    """A transport that says which kind of process it opens."""

    def open(self, argv: Sequence[str]) -> ProcessT_co: ...


@dataclass(frozen=True, slots=True)
class RunningAgent(Generic[ProcessT]):
    """An agent that said hello and now waits for requests."""

    process: ProcessT
    hello: AgentHello


def start_agent(transport: Opens[ProcessT], archive: AgentArchive) -> RunningAgent[ProcessT]:
    """Start the agent, sending it first when the runtime does not have exactly this one.

    Raises `AgentUnusable` when the runtime cannot run it, `RuntimeUnreachable` when it is cut off.
    """
    process = transport.open(
        ["python3", "-I", "-c", archive.boot_line, archive.digest, str(len(archive.content))]
    )
    try:
        output = _Stdout(process)
        _put_in_place(process, output, archive)
        return RunningAgent(process, _read_hello(output))
    except BaseException:
        process.close()
        raise


def parse_hello(header: Mapping[str, object]) -> AgentHello:
    """The agent's first frame; `AgentUnusable` when it speaks another protocol."""
    protocol = header.get("protocol")
    if protocol != wire.PROTOCOL:
        raise AgentUnusable(
            f"the agent on the runtime speaks protocol {protocol}, this colabdev {wire.PROTOCOL}",
            hint="update colabdev on this computer, then type the command again",
        )
    pid = header.get("pid")
    return AgentHello(
        protocol=wire.PROTOCOL,
        python=str(header.get("python")),
        pid=pid if isinstance(pid, int) else 0,
    )


def encode_request(
    kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
) -> bytes:
    """A request's frame."""
    return wire.encode({"request": kind, "arguments": dict(arguments or {})}, body)


def exchange(
    send: Callable[[bytes], object],
    read: Callable[[int], bytes],
    kind: str,
    arguments: Mapping[str, object] | None = None,
    body: bytes = b"",
) -> tuple[Mapping[str, object], bytes]:
    """One request and its answer over any byte stream to an agent.

    A stream that ends instead of answering raises ConnectionError. The agent's refusals become
    `ColabdevError`s; its bugs, and bytes that are no answer, `ProtocolError`s.
    """
    send(encode_request(kind, arguments, body))
    return read_answer(read, kind)


def read_answer(read: Callable[[int], bytes], kind: str) -> tuple[Mapping[str, object], bytes]:
    """The next frame of the answer to a request that was sent; see `exchange`."""
    try:
        frame = wire.read_frame(read)
    except wire.Truncated as exc:
        raise ConnectionError(str(exc)) from exc
    except wire.WireError as exc:
        raise ProtocolError(f"cannot understand the agent's answer to {kind!r}: {exc}") from exc
    if frame is None:
        raise ConnectionError(f"the agent ended before it answered {kind!r}")
    header, answer_body = frame
    failure = header.get("error")
    if isinstance(failure, dict):
        raise _agent_error(kind, failure)
    return header, answer_body


def _agent_error(kind: str, failure: Mapping[str, object]) -> ColabdevError:
    message = str(failure.get("message"))
    if failure.get("type") == "refused":
        return ColabdevError(message, hint=str(failure.get("hint") or ""))
    if failure.get("type") == "stale":
        return StaleTree(message, hint="colabdev sync")
    if failure.get("type") == "no_code":
        return NoCode(message, hint=str(failure.get("hint") or ""))
    if failure.get("type") == "os":
        return ColabdevError(
            f"the runtime cannot {_WORK.get(kind, kind)}: {message}",
            hint="colabdev ssh -- df -h shows its disks",
        )
    log.debug("the agent failed at %s: %s", kind, message)
    last_line = message.strip().rpartition("\n")[2]
    return ProtocolError(
        f"the agent failed at {kind!r}: {last_line}",
        hint="a bug in colabdev: please report it with what --verbose shows",
    )


def _put_in_place(process: RemoteProcess, output: _Stdout, archive: AgentArchive) -> None:
    word, reason = _marker_line(output)
    if word == "send":
        process.write(archive.content)
        word, reason = _marker_line(output)
    if word == "old":
        raise AgentUnusable(
            f"cannot start the agent: the runtime's python3 is {reason}; it needs 3.8 or newer",
            hint="install a newer python3 there, first on the PATH",
        )
    if word != "have":
        raise AgentUnusable(
            f"cannot put the agent on the runtime: {reason}",
            hint="make room or give write access there, then type the command again",
        )


def _marker_line(output: _Stdout) -> tuple[str, str]:
    """Word and reason of boot's next line; whatever a shell's start files print is skipped."""
    skipped = 0
    while skipped < _NOISE_BYTES and (line := output.read_line()):
        skipped += len(line)
        start = line.find(_MARKER)
        if start >= 0:
            text = line[start + len(_MARKER) :].decode("ascii", "replace").strip()
            word, _, reason = text.partition(" ")
            return word, reason
    raise output.no_agent()


def _read_hello(output: _Stdout) -> AgentHello:
    try:
        frame = wire.read_frame(output.read)
    except wire.WireError as exc:
        raise output.no_agent() from exc
    if frame is None:
        raise output.no_agent()
    return parse_hello(frame[0])


class _Stdout:
    """A starting agent's stdout as a stream, while the end of its stderr is kept for the error."""

    def __init__(self, process: RemoteProcess) -> None:
        self._process = process
        self._buffer = b""
        self._complaints = b""
        self._deadline = time.monotonic() + START_TIMEOUT_S

    def read(self, count: int) -> bytes:
        """Up to `count` bytes; b"" at the end."""
        if not self._buffer:
            self._fill()
        piece, self._buffer = self._buffer[:count], self._buffer[count:]
        return piece

    def read_line(self) -> bytes:
        """A line with its newline; what there is at the end or past 64 KiB."""
        while b"\n" not in self._buffer and len(self._buffer) < _NOISE_BYTES:
            if not self._fill():
                break
        line, newline, self._buffer = self._buffer.partition(b"\n")
        return line + newline

    def no_agent(self) -> AgentUnusable:
        """The error for a process that was no agent, with the last thing it said."""
        lines = self._complaints.decode("utf-8", "replace").strip().splitlines()
        cause = lines[-1] if lines else "it ended without a word"
        return AgentUnusable(
            f"cannot start the agent on the runtime: {cause}",
            hint="does `python3 --version` work there, in a shell that prints nothing else?",
        )

    def _fill(self) -> bool:
        while True:
            output = self._next()
            if output is None:
                return False
            if output.pipe == "stdout":
                self._buffer += output.data
                return True
            self._complaints = (self._complaints + output.data)[-_TAIL_BYTES:]

    def _next(self) -> Output | None:
        left_s = self._deadline - time.monotonic()
        try:
            return self._process.read(max(left_s, 0.001))
        except TimeoutError as exc:
            raise AgentUnusable(
                f"cannot start the agent: no answer within {START_TIMEOUT_S:.0f} s",
                hint="type the command again; colabdev ssh shows whether the runtime is overloaded",
            ) from exc
