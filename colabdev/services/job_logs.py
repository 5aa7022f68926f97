"""A job's log from wherever it is to whoever wants it: every byte once, in order, across cuts."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any

from colabdev.agent import jobdir
from colabdev.core.job_records import is_machine_gone, parse_job_list, told_by_runtime
from colabdev.crash_points import crash_point
from colabdev.errors import (
    AgentUnusable,
    ColabdevError,
    ProtocolError,
    RuntimeLost,
    RuntimeUnreachable,
    StaleTree,
    StateNotWritable,
    StateUnreadable,
)
from colabdev.models import Begin, JobRecord, JobState, Phase, RuntimeRecord
from colabdev.ports import AgentStream, JobStore, Keeper, Keepers, Progress, RuntimeStore
from colabdev.services.known_jobs import readable_jobs, write_standing
from colabdev.services.log_reading import (
    Reading,
    lost,
    say_disk_is_full,
    say_what_was_kept,
    say_what_was_lost,
)

HOME_TIMEOUT_S = 5.0
HOME_GRACE_S = 5.0
SAVING_GRACE_S = 60.0
"""For a job that writes checkpoints: it may save a last one."""
_RECONNECT_TIMEOUT_S = 60.0
_FIRST_TIMEOUT_S = 10.0
_RETRY_S = 0.5
_AGENT_TRIES = 3


@dataclass(slots=True)
class Starting:
    """The `job.start`s of one job, and what is known of what came of them."""

    arguments: Mapping[str, object] = field(repr=False)
    when_started: Callable[[], None] = lambda: None
    """Told once, as soon as the runtime says that it has the job."""
    unanswered: int = 0
    """Those of which nobody knows what became; the agent may still be at them."""
    started: bool = False
    refused: bool = False
    """For another reason than the files: the runtime may have come as far as to have the job."""
    told: JobRecord | None = None
    """The job as its runtime told of it at its end, which the disk here may have no room for."""


class JobLogs:
    """Follows jobs, and keeps this computer's copies of their logs."""

    def __init__(self, *, runtimes: RuntimeStore, keepers: Keepers, jobs: JobStore) -> None:
        self._runtimes = runtimes
        self._keepers = keepers
        self._jobs = jobs

    def read_attempt(
        self, reading: Reading, *, wait: bool, start: Starting | None = None
    ) -> Iterator[bytes]:
        """The log of one attempt from the reading's offset on: with `wait` until it has ended, else what
        there is now.

        `start` is what a `job.start` that comes first asks for; sent again after a cut, it starts the
        job once. A cut is said once and mended; a reader never sees a gap or a byte twice. Afterwards
        `reading.unseen` says whether the machine went before the end was seen; RuntimeLost when the
        attempt ended, and the machine went with what was not here yet.
        """
        job = reading.job
        yield from self._from_copy(reading)
        if self._is_whole(reading):
            return
        try:
            is_lost = job.state is JobState.LOST or self._is_gone(job)
            agent = None if is_lost else self.agent(job.runtime)
            while agent is not None:
                try:
                    with closing(agent):
                        for header, body in self._ask(agent, reading, wait=wait, start=start):
                            yield from self._take(reading, header, body, start)
                            if reading.done:
                                return
                except RuntimeUnreachable:
                    reading.progress(f"the connection to {job.runtime} was cut; reconnecting")
                    agent = self.reconnected(job)
        except RuntimeLost:
            pass  # Nobody may have written that down yet.
        yield from self._without_machine(reading)

    def start(self, job: JobRecord, start: Starting, progress: Progress) -> None:
        """Start the job; after a cut once more, which starts it once."""
        agent = self.agent(job.runtime)
        while True:
            try:
                with closing(agent):
                    for _ in self._start(agent, start, follow=False):
                        return
            except RuntimeUnreachable:
                progress(f"the connection to {job.runtime} was cut; reconnecting")
                again = self.reconnected(job)
                if again is None:
                    raise lost(Reading(job, progress)) from None
                agent = again

    def agent(self, runtime: str) -> AgentStream:
        """A first agent. A connection that was lost just now is given time to come back, once."""
        keeper = self._keepers.ensure(runtime)
        try:
            return keeper.agent()
        except RuntimeUnreachable:
            keeper = self._keepers.ensure(runtime)
            keeper.wait_ready(_FIRST_TIMEOUT_S)
            return keeper.agent()

    def offset_of(self, job: JobRecord, begin: Begin) -> int:
        """Where that is by the runtime's word; when it cannot be asked, or need not be, by our copy."""
        if not self._is_home(job) and not self._is_gone(job):
            arguments = {"id": job.id, "tail": begin.tail, "since_s": begin.since_s}
            with (
                suppress(RuntimeUnreachable),
                closing(self.agent(job.runtime)) as agent,
            ):
                offset = agent.request("job.status", arguments)[0].get("begin")
                return offset if isinstance(offset, int) and offset >= 0 else 0
        return self._jobs.begin_of(job.id, job.attempt, begin)

    def record_lines(self, job: JobRecord, name: str) -> Sequence[str]:
        """The lines of one of `jobdir.RECORDS`, from here if they are here or their machine is gone."""
        if self._jobs.has_records(job.id) or self._is_gone(job):
            return self._jobs.record_lines(job.id, name)
        with closing(self.agent(job.runtime)) as agent:
            return self.records(agent, job).get(name, "").splitlines()

    def awaited(self, runtime: RuntimeRecord) -> Sequence[JobRecord]:
        """The jobs of the runtime that are not here whole."""
        return [job for job in self._of(runtime) if not self._is_home(job)]

    def home(self, runtime: RuntimeRecord) -> Sequence[JobRecord]:
        """The jobs of the runtime that are."""
        return [job for job in self._of(runtime) if self._is_home(job)]

    def unended(self, runtime: RuntimeRecord) -> Sequence[str]:
        """The jobs of the runtime that may run on, as far as is known here."""
        with suppress(ColabdevError):
            return [job.id for job in self._of(runtime) if not job.state.is_end]
        return []

    def bring_home(
        self, runtime: RuntimeRecord, progress: Progress, saving: Collection[str] = ()
    ) -> bool:
        """End what still runs there and copy every log and status; what cannot be had is said. Jobs in
        `saving` get time to save. Whether there was anything to bring."""
        try:
            left = self.awaited(runtime)
        except ColabdevError as exc:
            progress(f"cannot bring the ends of its jobs home: {exc.message}")
            return False
        if not left or runtime.machine is None or runtime.phase is Phase.LOST:
            return False
        try:
            keeper = self._keepers.ensure(runtime.name)
            keeper.wait_ready(HOME_TIMEOUT_S)
            with closing(keeper.agent()) as agent:
                answer, _ = agent.request("job.list")
            there = parse_job_list(answer)
            for job in left:
                if job.id in there:
                    keeper.wait_ready(HOME_TIMEOUT_S)
                    grace_s = SAVING_GRACE_S if job.id in saving else HOME_GRACE_S
                    self._bring_one(keeper, job, progress, grace_s)
        except ColabdevError as exc:
            names = ", ".join(job.id for job in left if not self._is_home(job))
            progress(f"cannot bring the end of {names} home: {exc.message}")
        return True

    def _bring_one(
        self, keeper: Keeper, job: JobRecord, progress: Progress, grace_s: float
    ) -> None:
        """One that cannot be had must not keep the others from coming."""
        try:
            with closing(keeper.agent()) as agent:
                self._bring(agent, job, progress, grace_s)
        except ColabdevError as exc:
            progress(f"cannot bring the end of {job.id} home: {exc.message}")

    def _bring(
        self, agent: AgentStream, job: JobRecord, progress: Progress, grace_s: float
    ) -> None:
        if not job.state.is_end:
            progress(f"stopping {job.id} and bringing its log home")
            agent.request("job.stop", {"id": job.id, "grace_s": grace_s})
        self.fetch(agent, job, progress)

    def fetch(self, agent: AgentStream, job: JobRecord, progress: Progress) -> JobRecord:
        """Copy what is not here yet of the log, and of a job that has ended its records; the job as it
        stands."""
        reading = Reading(job, progress, self._jobs.log_size(job.id, job.attempt))
        reading.uncopied = f"the log of {job.id} is lost with the machine's disk"
        for header, body in self._ask(agent, reading, wait=False, start=None):
            for _ in self._take(reading, header, body):
                pass
            if reading.done:
                break
        if reading.job.state.is_end:
            texts = self.records(agent, job)
            self._copy(reading, lambda: self._jobs.save_records(job.id, texts))
        return reading.job

    def records(self, agent: AgentStream, job: JobRecord) -> Mapping[str, str]:
        """What its runtime has of the job beside the log: texts by the names of their files."""
        _, body = agent.request("job.records", {"id": job.id})
        try:
            texts = json.loads(zlib.decompress(body))
            return {name: str(texts[name]) for name in jobdir.RECORDS if name in texts}
        except (zlib.error, ValueError, TypeError, RecursionError) as exc:
            raise ProtocolError(f"cannot understand the records of {job.id}: {exc!r}") from exc

    def _of(self, runtime: RuntimeRecord) -> list[JobRecord]:
        of = (runtime.name, runtime.request_id)
        return [
            job
            for job in readable_jobs(self._jobs)
            if job.ours and (job.runtime, job.request_id) == of
        ]

    def _is_home(self, job: JobRecord) -> bool:
        try:
            known = self._jobs.load(job.id) or job
        except StateUnreadable:
            return False
        size = self._jobs.log_size(job.id, job.attempt)
        is_whole = known.state.is_end and size == (known.log_bytes or 0)
        return is_whole and self._jobs.has_records(job.id)

    def _from_copy(self, reading: Reading) -> Iterator[bytes]:
        while piece := self._jobs.read_log(reading.job.id, reading.job.attempt, reading.offset):
            reading.offset += len(piece)
            yield piece

    def _is_whole(self, reading: Reading) -> bool:
        return reading.job.state.is_end and reading.offset == reading.job.log_bytes

    def _ask(
        self,
        agent: AgentStream,
        reading: Reading,
        *,
        wait: bool,
        start: Starting | None,
    ) -> Iterator[tuple[Mapping[str, object], bytes]]:
        if start is not None and not start.started:
            return self._start(agent, start, follow=True)
        cursor = {"attempt": reading.job.attempt, "offset": reading.offset}
        return agent.stream("job.follow", {"id": reading.job.id, "wait": wait, **cursor})

    def _start(
        self, agent: AgentStream, start: Starting, *, follow: bool
    ) -> Iterator[tuple[Mapping[str, object], bytes]]:
        """Ask for the start, and keep count of what was answered."""
        start.unanswered += 1
        try:
            for header, body in agent.stream("job.start", {**start.arguments, "follow": follow}):
                if "id" in header:
                    start.started = True
                    crash_point("run.started")
                    start.when_started()
                elif not start.started:
                    raise ProtocolError("cannot understand how the runtime starts a job: no id")
                yield header, body
        except (RuntimeUnreachable, RuntimeLost, ProtocolError):
            raise  # No answer, or none that tells.
        except StaleTree:
            start.unanswered -= 1
            raise
        except ColabdevError:
            start.unanswered -= 1
            start.refused = True
            raise

    def _take(
        self,
        reading: Reading,
        header: Mapping[str, Any],
        body: bytes,
        start: Starting | None = None,
    ) -> Iterator[bytes]:
        """One frame: bytes for the copy and the reader, or how the job stands now."""
        if isinstance(header.get("status"), dict):
            reading.done = True
            reading.job = told_by_runtime(reading.job, header["status"])
            if start is not None:
                start.told = reading.job
            say_what_was_kept(reading, header["status"].get("kept"))
            say_what_was_lost(reading, header["status"].get("lost_bytes"))
            if reading.job.state.is_end:  # What goes on may have ended here meanwhile.
                self._copy(reading, lambda: write_standing(self._jobs, reading.job))
        elif header.get("note") == jobdir.DISK_FULL:
            say_disk_is_full(reading)
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

    def _copy(self, reading: Reading, write: Callable[[], None]) -> None:
        """Write to this computer's copy; a full disk here is no reason to stop reading."""
        try:
            write()
        except StateNotWritable as exc:
            if reading.copying:
                reading.progress(f"{exc.message}; {reading.uncopied}")
            reading.copying = False

    def reconnected(self, job: JobRecord) -> AgentStream | None:
        """An agent on the same machine, however long that takes; None when that is gone."""
        unusable = 0
        while not self._is_gone(job):
            try:
                keeper = self._keepers.ensure(job.runtime)
                keeper.wait_ready(_RECONNECT_TIMEOUT_S)
                agent = keeper.agent()
            except RuntimeUnreachable:
                time.sleep(_RETRY_S)
            except AgentUnusable:
                # It ran there before; one that was killed as it started says nothing of the next.
                unusable += 1
                if unusable >= _AGENT_TRIES:
                    raise
                time.sleep(_RETRY_S)
            except ColabdevError:
                if not self._is_gone(job):
                    raise
            else:
                if not self._is_gone(job):
                    return agent
                agent.close()
        return None

    def _is_gone(self, job: JobRecord) -> bool:
        return is_machine_gone(job, self._runtimes.load(job.runtime))

    def _without_machine(self, reading: Reading) -> Iterator[bytes]:
        """What whoever released the machine brought home, and whether that is all."""
        yield from self._from_copy(reading)
        known = self._jobs.load(reading.job.id)
        if known is not None and known.attempt == reading.job.attempt:
            reading.job = known
        if self._is_whole(reading):
            return
        if reading.job.log_bytes is not None:
            raise lost(reading)
        reading.unseen = True
