"""A job's log across the machines that it ran on: each attempt from its first byte, in order."""

from __future__ import annotations

from collections.abc import Iterator

from colabdev.errors import UsageError
from colabdev.models import JobRecord
from colabdev.models.recovery import PastAttempt
from colabdev.ports import JobStore, Progress
from colabdev.services.hand_overs import HandOvers
from colabdev.services.job_logs import JobLogs, Starting
from colabdev.services.log_reading import LogPiece, Reading, describe_unseen, lost


class JobAttempts:
    """Reads jobs' logs for whoever asks, and stays with a job that continues elsewhere."""

    def __init__(self, *, logs: JobLogs, jobs: JobStore, hand_overs: HandOvers) -> None:
        self._logs = logs
        self._jobs = jobs
        self._hand_overs = hand_overs

    def read(
        self,
        job: JobRecord,
        progress: Progress,
        *,
        wait: bool,
        start: Starting | None = None,
        offset: int | None = None,
    ) -> Iterator[LogPiece]:
        """The log of all attempts, or from `offset` of the newest on: with `wait` until the job has
        ended, on whichever machine, else what there is now. `start` as for `JobLogs.read_attempt`.

        Where an attempt ended unseen that is said. RuntimeLost, saying why, when one was waited for and
        none comes after it.
        """
        if offset is None:
            yield from self._past_after(0, job, progress)
        if not self._hand_overs.has_begun(job):
            if not wait:
                return
            job = self._hand_overs.wait_for_next(job.id, job.attempt - 1, progress)
        reading = Reading(job, progress, offset or 0)
        while True:
            was_gone = self._hand_overs.is_gone(reading.job)
            yield from self._read(reading, wait=wait, start=start)
            before = reading.job
            if not reading.unseen:
                return
            may_go_on = before.continues is not None and not _was_never_started(start)
            if wait and not may_go_on and (start is not None or not was_gone):
                raise lost(reading)
            progress(describe_unseen(before.attempt, reading.offset))
            if not wait or not may_go_on:
                return
            job = self._hand_overs.wait_for_next(before.id, before.attempt, progress)
            yield from self._rest(reading, progress)
            if job.attempt == before.attempt:
                return  # It has ended, and whatever comes of its log has come.
            yield from self._past_after(before.attempt, job, progress)
            reading = Reading(job, progress)
            if start is not None:
                start.started = True

    def one(self, job: JobRecord, number: int, progress: Progress) -> Iterator[LogPiece]:
        """What there is now of the log of one attempt."""
        if number == job.attempt:
            return self.read(job, progress, wait=False, offset=0)
        for past in job.past:
            if past.attempt == number:
                return self._past(job, past, progress)
        raise UsageError(
            f"{job.id} has no attempt {number}",
            hint=f"the newest is {job.attempt}: colabdev logs --attempt {job.attempt} {job.id}",
        )

    def _read(self, reading: Reading, *, wait: bool, start: Starting | None) -> Iterator[LogPiece]:
        attempt = reading.job.attempt
        for data in self._logs.read_attempt(reading, wait=wait, start=start):
            yield LogPiece(attempt, reading.offset - len(data), data)

    def _past_after(self, attempt: int, job: JobRecord, progress: Progress) -> Iterator[LogPiece]:
        for past in job.past:
            if past.attempt > attempt:
                yield from self._past(job, past, progress)

    def _past(self, job: JobRecord, past: PastAttempt, progress: Progress) -> Iterator[LogPiece]:
        """As much as came here: more may have come from Drive since it was written down."""
        offset = 0
        while data := self._jobs.read_log(job.id, past.attempt, offset):
            yield LogPiece(past.attempt, offset, data)
            offset += len(data)
        progress(describe_unseen(past.attempt, offset))

    def _rest(self, reading: Reading, progress: Progress) -> Iterator[LogPiece]:
        """What came here of an attempt after its machine had gone, from Drive."""
        job, before = reading.job, reading.offset
        while data := self._jobs.read_log(job.id, job.attempt, reading.offset):
            yield LogPiece(job.attempt, reading.offset, data)
            reading.offset += len(data)
        if reading.offset > before:
            progress(describe_unseen(job.attempt, reading.offset))


def _was_never_started(start: Starting | None) -> bool:
    return start is not None and not start.started and not start.unanswered
