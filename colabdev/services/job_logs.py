"""A job's log from wherever it is to whoever wants it: every byte once, in order, across cuts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from colabdev.core.job_records import as_it_stands, told_by_runtime
from colabdev.crash_points import crash_point
from colabdev.errors import (
    ColabdevError,
    ProtocolError,
    RuntimeLost,
    RuntimeUnreachable,
    StateNotWritable,
    StateUnreadable,
    runtime_lost,
)
from colabdev.models import JobRecord, JobState, Phase, RuntimeRecord
from colabdev.ports import AgentStream, JobStore, Keepers, Progress, RuntimeStore

HOME_TIMEOUT_S = 5.0
HOME_GRACE_S = 5.0
_RECONNECT_TIMEOUT_S = 60.0
_FIRST_TIMEOUT_S = 10.0
_RETRY_S = 0.5


@dataclass(slots=True)
class _Reading:
    """One reader's way through the log of one attempt; `offset` is where its next byte stands."""

    job: JobRecord
    progress: Progress
    offset: int = 0
    done: bool = False
    copying: bool = field(default=True)


class JobLogs:
    """Follows jobs, and keeps this computer's copies of their logs."""

    def __init__(self, *, runtimes: RuntimeStore, keepers: Keepers, jobs: JobStore) -> None:
        self._runtimes = runtimes
        self._keepers = keepers
        self._jobs = jobs

    def read(
        self,
        job: JobRecord,
        progress: Progress,
        *,
        wait: bool,
        start: Mapping[str, object] | None = None,
    ) -> Iterator[bytes]:
        """The log from its first byte: with `wait` until the job has ended, else what there is now.

        `start` are the arguments of a `job.start` that comes first; sent again after a cut, it starts
        the job once. A cut is said once and mended; a reader never sees a gap or a byte twice.
        """
        reading = _Reading(job, progress)
        yield from self._from_copy(reading)
        if self._is_whole(reading):
            return
        if as_it_stands(job, self._runtimes.load(job.runtime)).state is JobState.LOST:
            progress(f"attempt {job.attempt} ended unseen after byte {reading.offset}")
            return
        agent = self.agent(job.runtime)
        while not reading.done:
            try:
                with closing(agent):
                    for header, body in self._ask(agent, reading, wait=wait, start=start):
                        if "id" in header:
                            crash_point("run.started")
                            start = None
                        yield from self._take(reading, header, body)
                        if reading.done:
                            return
            except RuntimeUnreachable:
                progress(f"the connection to {job.runtime} was cut; reconnecting")
                agent = self._reconnected(reading)

    def start(self, job: JobRecord, arguments: Mapping[str, object], progress: Progress) -> None:
        """Start the job; after a cut once more, which starts it once."""
        agent = self.agent(job.runtime)
        while True:
            try:
                with closing(agent):
                    agent.request("job.start", arguments)
                    return
            except RuntimeUnreachable:
                progress(f"the connection to {job.runtime} was cut; reconnecting")
                agent = self._reconnected(_Reading(job, progress))

    def agent(self, runtime: str) -> AgentStream:
        """A first agent. A connection that was lost just now is given time to come back, once."""
        keeper = self._keepers.ensure(runtime)
        try:
            return keeper.agent()
        except RuntimeUnreachable:
            keeper = self._keepers.ensure(runtime)
            keeper.wait_ready(_FIRST_TIMEOUT_S)
            return keeper.agent()

    def bring_home(self, runtime: RuntimeRecord, progress: Progress) -> None:
        """End what still runs there and copy every log and status; what cannot be had is said."""
        left = [job for job in self._of(runtime) if not self._is_home(job)]
        if not left or runtime.machine is None or runtime.phase is Phase.LOST:
            return
        try:
            keeper = self._keepers.ensure(runtime.name)
            keeper.wait_ready(HOME_TIMEOUT_S)
            for job in left:
                with closing(keeper.agent()) as agent:
                    self._bring_one(agent, job, progress)
        except ColabdevError as exc:
            names = ", ".join(job.id for job in left if not self._is_home(job))
            progress(f"cannot bring the end of {names} home: {exc.message}")

    def _bring_one(self, agent: AgentStream, job: JobRecord, progress: Progress) -> None:
        if not job.state.is_end:
            progress(f"stopping {job.id} and bringing its log home")
            agent.request("job.stop", {"id": job.id, "grace_s": HOME_GRACE_S})
        reading = _Reading(job, progress, self._jobs.log_size(job.id, job.attempt))
        for header, body in self._ask(agent, reading, wait=False, start=None):
            for _ in self._take(reading, header, body):
                pass
            if reading.done:
                return

    def _of(self, runtime: RuntimeRecord) -> list[JobRecord]:
        found = []
        for job_id in self._jobs.ids():
            try:
                job = self._jobs.load(job_id)
            except StateUnreadable:
                continue  # `ps` says so; it must not keep a machine from being released.
            if job and (job.runtime, job.request_id) == (runtime.name, runtime.request_id):
                found.append(job)
        return found

    def _is_home(self, job: JobRecord) -> bool:
        known = self._jobs.load(job.id) or job
        size = self._jobs.log_size(job.id, job.attempt)
        return known.state.is_end and size == (known.log_bytes or 0)

    def _from_copy(self, reading: _Reading) -> Iterator[bytes]:
        while piece := self._jobs.read_log(reading.job.id, reading.job.attempt, reading.offset):
            reading.offset += len(piece)
            yield piece

    def _is_whole(self, reading: _Reading) -> bool:
        return reading.job.state.is_end and reading.offset == reading.job.log_bytes

    def _ask(
        self,
        agent: AgentStream,
        reading: _Reading,
        *,
        wait: bool,
        start: Mapping[str, object] | None,
    ) -> Iterator[tuple[Mapping[str, object], bytes]]:
        if start is not None:
            return agent.stream("job.start", {**start, "follow": True})
        cursor = {"attempt": reading.job.attempt, "offset": reading.offset}
        return agent.stream("job.follow", {"id": reading.job.id, "wait": wait, **cursor})

    def _take(self, reading: _Reading, header: Mapping[str, Any], body: bytes) -> Iterator[bytes]:
        """One frame: bytes for the copy and the reader, or how the job stands now."""
        if isinstance(header.get("status"), dict):
            reading.done = True
            reading.job = _told(reading.job, header["status"])
            self._copy(reading, lambda: self._jobs.save(reading.job))
        elif body:
            if header.get("offset") != reading.offset:
                raise ProtocolError(
                    f"the runtime sent the log of {reading.job.id} from another place than asked"
                )
            self._copy(
                reading,
                lambda: self._jobs.append(
                    reading.job.id, reading.job.attempt, reading.offset, body
                ),
            )
            reading.offset += len(body)
            yield body

    def _copy(self, reading: _Reading, write: Callable[[], None]) -> None:
        """Write to this computer's copy; a full disk here is no reason to stop reading."""
        try:
            write()
        except StateNotWritable as exc:
            if reading.copying:
                reading.progress(f"{exc.message}; the log goes on without a copy here")
            reading.copying = False

    def _reconnected(self, reading: _Reading) -> AgentStream:
        """An agent on the same machine, however long that takes; RuntimeLost when it is gone."""
        job = reading.job
        while True:
            try:
                keeper = self._keepers.ensure(job.runtime)
                keeper.wait_ready(_RECONNECT_TIMEOUT_S)
                agent = keeper.agent()
            except RuntimeUnreachable:
                agent = None
            if as_it_stands(job, self._runtimes.load(job.runtime)).state is JobState.LOST:
                raise _lost(reading)
            if agent is not None:
                return agent
            time.sleep(_RETRY_S)


def _lost(reading: _Reading) -> RuntimeLost:
    lost = runtime_lost(reading.job.runtime)
    seen = f"attempt {reading.job.attempt} ended unseen after byte {reading.offset}"
    return RuntimeLost(f"{lost.message}; {seen}", hint=lost.hint)


def _told(job: JobRecord, status: Mapping[str, Any]) -> JobRecord:
    try:
        return told_by_runtime(job, status)
    except (KeyError, TypeError, ValueError) as exc:
        raise ProtocolError(f"cannot understand what the runtime says of {job.id}: {exc}") from exc
