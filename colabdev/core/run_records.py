"""What Drive has written down of a job, read as what another computer needs to go on with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from colabdev.agent import jobdir, manifest
from colabdev.core.json_values import listing, mapping, optional_count, text
from colabdev.models import JobRecord, JobState, RuntimeRecord
from colabdev.models.recovery import Consent, PastAttempt, Resumed

_SPEC_NAMES = ("kind", "argv", "typed", "requirements", "in_place", "timeout_s", "tree", "created")


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as its folder on Drive tells of it."""

    id: str
    name: str
    typed: tuple[str, ...]
    created: datetime
    spec: Mapping[str, object]
    """What of its `job.start` belongs to no machine."""
    variables: tuple[str, ...]
    """The names of those that it was started with; their values are on no disk."""
    attempts: tuple[PastAttempt, ...]
    """Oldest first; at least one."""
    safe: Resumed | None
    """The newest checkpoint of its lineage that was safe, by what the job accepts as that."""

    @property
    def newest(self) -> PastAttempt:
        """The attempt that nobody has gone on from."""
        return self.attempts[-1]


def parse_stored_job(row: Mapping[str, Any]) -> StoredJob:
    """A row of the answer to `checkpoint.stored`; ValueError says what is missing in it."""
    try:
        job_id, run = text(row["job"]), row["run"]
        if not isinstance(run, Mapping):
            raise ValueError("its run.json is not there yet")
        typed = tuple(text(word) for word in listing(run["typed"]))
        return StoredJob(
            id=job_id,
            name=text(run["name"]),
            typed=typed,
            created=_moment(run["created"]),
            spec={
                "schema": jobdir.SCHEMA,
                "id": job_id,
                "name": text(run["name"]),
                # Nobody is at its terminal, nor types into it.
                **{"pty": False, "window": [], "stdin": jobdir.NO_INPUT, "after": []},
                **{name: run.get(name) for name in _SPEC_NAMES},
                "checkpoints": run["checkpoints"],
            },
            variables=tuple(text(name) for name in listing(run.get("variables") or [])),
            attempts=_attempts(row, run),
            safe=max(_safe(row, run), key=lambda mark: mark.rank, default=None),
        )
    except (KeyError, TypeError) as exc:
        raise ValueError(f"it lacks or mangles {exc}") from exc


def as_record(stored: StoredJob, runtime: RuntimeRecord, consent: Consent | None) -> JobRecord:
    """The job as this computer is to know it before it goes on with it, on the runtime of that name. Its
    machine is taken for gone: should it live, its job stops itself when it sees the next attempt."""
    newest = stored.newest
    return JobRecord(
        id=stored.id,
        name=stored.name,
        runtime=runtime.name,
        request_id=newest.request_id,
        argv=stored.typed,
        created=stored.created,
        attempt=newest.attempt,
        state=JobState.LOST,
        started=newest.started,
        continues=consent,
        past=stored.attempts[:-1],
    )


def _attempts(row: Mapping[str, Any], run: Mapping[str, Any]) -> tuple[PastAttempt, ...]:
    found = {
        number: PastAttempt(number, text(one["runtime"]), _optional_moment(one), 0)
        for one in listing(row.get("starts") or [])
        if (number := optional_count(one["attempt"]))
    }
    first = optional_count(run.get("attempt")) or jobdir.FIRST_ATTEMPT
    found.setdefault(first, PastAttempt(first, "", _moment(run["created"]), 0))
    return tuple(found[number] for number in sorted(found))


def _safe(row: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[Resumed]:
    """What was proved, where attempts began, and what is there by Drive's own word if that is enough."""
    starts: dict[int, manifest.Start] = {}
    began = []
    for one in listing(row.get("starts") or []):
        number, before = optional_count(one["attempt"]), optional_count(one.get("from_attempt"))
        step = optional_count(one.get("from_step"))
        if number:
            starts[number] = manifest.Start(number, before, step)
        if before:
            began.append(Resumed(before, step))
    for mark in (*began, *_accepted(row, run)):
        if manifest.is_in_lineage(mark.attempt, mark.step, starts):
            yield mark


def _accepted(row: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[Resumed]:
    accept = text(mapping(run["checkpoints"]).get("accept", manifest.CONFIRMED))
    found: Sequence[Any] = [
        *listing(row.get("confirmed") or []),
        *(
            one
            for one in listing(row.get("checkpoints") or [])
            if manifest.is_enough(text(one["level"]), accept)
        ),
    ]
    for one in found:
        attempt = optional_count(one["attempt"])
        if attempt:
            yield Resumed(attempt, optional_count(one.get("step")))


def _optional_moment(one: Mapping[str, Any]) -> datetime | None:
    return None if one.get("started") is None else _moment(one["started"])


def _moment(value: object) -> datetime:
    if not isinstance(value, int | float):
        raise TypeError(repr(value))
    try:
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise ValueError(f"{value} is no time") from exc
