"""The line to an agent that watches a work dir: what it tells, and small changes that it makes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from colabdev.errors import ColabdevError, RuntimeUnreachable
from colabdev.ports import AgentStream
from colabdev.services.sync_answers import parse_failures

Failures = Sequence[tuple[str, str, str]]


class WatchLine:
    """One conversation. `listen` runs in a thread of its own, `push` is asked from another."""

    def __init__(self, agent: AgentStream, place: Mapping[str, object]) -> None:
        """`place` has the arguments of `sync.watch`."""
        self._agent = agent
        self._place = place
        self._changed = threading.Condition()
        self._answer: Mapping[str, object] | None = None
        self._pushes = 0
        self._ended = False

    def listen(self, tell: Callable[[bytes], None], note: Callable[[str], None]) -> None:
        """Until the line ends, which is an error, `tell` of each change there: what was done, see
        `agent.few_changes`, or nothing when only a whole sync tells. `note` is told why the agent only
        looks now and then."""
        try:
            for header, body in self._agent.stream("sync.watch", self._place):
                self._hear(header, body, tell, note)
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def push(self, steps: bytes) -> Failures | None:
        """Have the changes made there: those that could not be. None when nothing was done, because only
        a whole sync tells what to do, or nobody knows, because the line ended."""
        self._pushes += 1
        try:
            self._agent.send({"push": self._pushes}, steps)
        except RuntimeUnreachable:
            return None
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._is_answered())
            answer, self._answer = self._answer, None
        return None if answer is None or "doubt" in answer else parse_failures(answer)

    @property
    def wire_bytes(self) -> int:
        """How much was sent and received so far."""
        return self._agent.wire_bytes

    def _is_answered(self) -> bool:
        return self._answer is not None and self._answer.get("pushed") == self._pushes

    def _hear(
        self,
        header: Mapping[str, object],
        body: bytes,
        tell: Callable[[bytes], None],
        note: Callable[[str], None],
    ) -> None:
        if header.get("end"):
            workdir = self._place["workdir"]
            raise ColabdevError(f"{workdir} was removed or replaced", hint="colabdev sync")
        if header.get("because"):
            note(f"looks at the files there now and then: {header['because']}")
        if "pushed" in header:
            with self._changed:
                self._answer = header
                self._changed.notify_all()
        else:
            tell(body)
