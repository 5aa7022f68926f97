"""What is typed here, and the size of this terminal, to a running job: every byte once, across cuts."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress

from colabdev.errors import ColabdevError, RuntimeUnreachable
from colabdev.models import JobRecord
from colabdev.ports import AgentStream
from colabdev.services.job_logs import JobLogs

log = logging.getLogger(__name__)

WINDOW_BYTES = 1024 * 1024
"""How much may be on its way. A job that does not read holds back the one who writes."""

_FRAME_BYTES = 64 * 1024


class JobInput:
    """A way into one job. It opens with the first thing that is sent, and mends itself after a cut.

    What the runtime has not said it took is kept, and sent again through the next connection with its
    offset, by which the job's supervisor knows what it has. Threads may share it.
    """

    def __init__(self, logs: JobLogs, job: JobRecord, problem: Callable[[str], None]) -> None:
        """`problem` is told, at most once, why input does not reach the job."""
        self._logs = logs
        self._job = job
        self._problem = problem
        self._client = secrets.token_hex(8)
        self._changed = threading.Condition()
        self._agent: AgentStream | None = None
        """The open connection, once the job said how much it took."""
        self._unsettled = b""
        """What was written and is not known to be taken."""
        self._taken = 0
        """How many bytes were, before `_unsettled`."""
        self._ended = False
        self._size: tuple[int, int] | None = None
        """The window's, until the job has it."""
        self._closed = False
        self._thread: threading.Thread | None = None

    def resize(self, columns: int, rows: int) -> None:
        """Give the job's terminal this size; told again, its programs draw anew."""
        with self._changed:
            self._size = (columns, rows)
            self._open()
            self._send({"resize": [columns, rows]})

    def write(self, data: bytes) -> bool:
        """Send it all; blocks while too much is on its way. False when nobody wants it any more."""
        view = memoryview(data)
        for start in range(0, len(view), _FRAME_BYTES):
            piece = bytes(view[start : start + _FRAME_BYTES])
            with self._changed:
                self._open()
                self._changed.wait_for(lambda: self._closed or len(self._unsettled) < WINDOW_BYTES)
                if self._closed:
                    return False
                offset = self._taken + len(self._unsettled)
                self._unsettled += piece
                self._send({"data": offset}, piece)
        return True

    def end(self) -> None:
        """The end of the input, behind all that was written."""
        with self._changed:
            self._ended = True
            self._open()
            self._send(self._end_frame())

    def settle(self, timeout_s: float) -> bool:
        """Wait until the job has all that was written; False when that is not so in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._unsettled, timeout_s)
            return not self._unsettled

    def close(self) -> None:
        """Let go of the job, which goes on."""
        self._closed = True  # Not waiting for the lock: its holder may be stuck sending.
        agent = self._agent
        if agent is not None:
            agent.close()
        with self._changed:
            self._changed.notify_all()

    def _open(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._attend, daemon=True)
            self._thread.start()

    def _send(self, header: Mapping[str, object], body: bytes = b"") -> None:
        """Now, if there is a connection; else, or when that breaks, the next one begins with it."""
        agent = self._agent
        if agent is not None:
            with suppress(RuntimeUnreachable):
                agent.send(header, body)

    def _attend(self) -> None:
        """Hold a connection, and hear what was taken, until the job or we end."""
        try:
            agent: AgentStream | None = self._logs.agent(self._job.runtime)
            while agent is not None and not self._closed:
                try:
                    with closing(agent):
                        if self._converse(agent):
                            break
                except RuntimeUnreachable:
                    log.debug("the way into %s was cut", self._job.id)
                self._agent = None
                agent = None if self._closed else self._logs.reconnected(self._job)
        except ColabdevError as exc:
            if not self._closed:
                self._problem(f"what is typed here does not reach {self._job.id}: {exc.message}")
        finally:
            with self._changed:
                self._agent = None
                self._closed = True
                self._changed.notify_all()

    def _converse(self, agent: AgentStream) -> bool:
        """One connection; True when the job has ended, False when it should be opened again."""
        asked = {"id": self._job.id, "client": self._client}
        for header, _ in agent.stream("job.input", asked):
            if header.get("closed"):
                return bool(header.get("ended"))
            self._hear(agent, header)
        return False

    def _hear(self, agent: AgentStream, header: Mapping[str, object]) -> None:
        taken, resized = header.get("taken"), header.get("resized")
        with self._changed:
            if isinstance(taken, int):
                self._unsettled = self._unsettled[max(taken - self._taken, 0) :]
                self._taken = max(taken, self._taken)
                if self._agent is None and not self._closed:
                    self._agent = agent
                    self._catch_up()
            if isinstance(resized, list) and self._size == tuple(resized):
                self._size = None
            self._changed.notify_all()

    def _catch_up(self) -> None:
        """What the job does not have yet."""
        if self._size is not None:
            self._send({"resize": list(self._size)})
        for start in range(0, len(self._unsettled), _FRAME_BYTES):
            piece = self._unsettled[start : start + _FRAME_BYTES]
            self._send({"data": self._taken + start}, piece)
        if self._ended:
            self._send(self._end_frame())

    def _end_frame(self) -> dict[str, object]:
        return {"eof": self._taken + len(self._unsettled)}
