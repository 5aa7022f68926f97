"""A job's checkpoints as its runtime tells of them, and what can be said of how safe they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from colabdev.agent import manifest
from colabdev.agent.jobdir import is_job_id, matching
from colabdev.core.times import format_age
from colabdev.errors import CheckpointNotFound, ProtocolError, UsageError

_NAME = re.compile(r"[0-9]+-[A-Za-z0-9_-]{1,80}")
_WITH_FOLDERS = (manifest.DRIVEFS, manifest.DRIVEAPI, manifest.DISK)
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint, and the highest level that is proved of it."""

    job: str
    name: str
    """Of one folder; the order of two is that of (`attempt`, `step`) as far as they have steps."""
    attempt: int
    step: int | None
    saved: float
    """When the trainer had written it; seconds since the epoch, by the runtime's clock."""
    level: str
    size_bytes: int
    sha256: str
    store: str
    """Where it has that level."""
    path: str
    since: float = 0.0
    """When it reached that level."""
    is_on_runtime: bool = True
    levels: Mapping[str, str] = field(default_factory=dict)
    """By store."""
    unproven: bool = False
    """A store was handed it and will never say whether it arrived."""


@dataclass(frozen=True, slots=True)
class JobCheckpoints:
    """How a job's checkpoints stand."""

    job: str
    accept: str
    """The level from which on one counts as safe."""
    stores: Sequence[str]
    """Those that they are to go to."""
    checkpoints: Sequence[Checkpoint]
    """Newest first."""
    safe: Checkpoint | None
    is_safe: bool
    """Nothing newer than the safe one is known."""
    at_risk_steps: int | None
    at_risk_s: float | None
    problems: Mapping[str, str]
    """What keeps a store from taking them."""
    wants_token: bool = False
    """A store needs a token for Drive."""
    is_unattended: bool = False
    """The runtime is to get further ones by itself."""
    is_carried: bool = False
    """Somebody on the runtime still looks for new ones, or carries them."""

    @property
    def needs_tokens(self) -> bool:
        """Somebody has to send it one now and then."""
        return manifest.DRIVEAPI in self.stores

    @property
    def newest(self) -> Checkpoint | None:
        return self.checkpoints[0] if self.checkpoints else None


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A job of which a store has something; its checkpoints only when it was asked about alone."""

    job: str
    created: float
    """Seconds since the epoch; 0 when the store does not tell."""
    checkpoints: Sequence[Checkpoint]
    """Newest first; by their manifests, not verified. What is no part of the job as it went on is left
    out."""
    starts: Mapping[int, manifest.Start] = field(default_factory=dict)
    """Where each attempt began; told with the checkpoints."""

    def has_in_lineage(self, one: Checkpoint) -> bool:
        """Whether it is part of the job as it went on, as far as the store tells."""
        return not self.starts or manifest.is_in_lineage(one.attempt, one.step, self.starts)


@dataclass(frozen=True, slots=True)
class Durable:
    """What of a job would survive its runtime now."""

    job: str
    step: int | None
    level: str
    """The highest level of all that was proved, also when it is not enough to be safe."""
    age_s: float
    """How long ago it got there."""
    at_risk_steps: int | None
    at_risk_s: float | None
    is_safe: bool
    """That level is enough."""


def parse_checkpoint(job: str, row: object, folder: str = "") -> Checkpoint:
    """A row of the agent's; `ProtocolError` when it makes no sense. `folder` is where a store has the
    job's, if the row does not tell."""
    try:
        if not isinstance(row, Mapping):
            raise TypeError("it is no object")
        level = str(row["level"])
        manifest.rank_of(level)
        step = row.get("step")
        store, path = str(row.get("store") or manifest.DISK), str(row.get("path") or "")
        return Checkpoint(
            job=job,
            name=check_checkpoint_name(row["name"]),
            attempt=int(row["attempt"]),
            step=None if step is None else int(step),
            saved=float(row.get("saved") or 0),
            level=level,
            size_bytes=int(row["size_bytes"]),
            sha256=str(row["sha256"]),
            store=store,
            path=f"{folder}/{path}" if folder and store in _WITH_FOLDERS else path,
            since=float(row.get("since") or 0),
            is_on_runtime=bool(row.get("local")),
            levels={str(key): str(value) for key, value in (row.get("levels") or {}).items()},
            unproven=bool(row.get("unproven")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ProtocolError(
            f"the runtime described a checkpoint of {job} in a way that makes no sense: {exc}",
            hint="update colabdev on both sides: colabdev connect",
        ) from exc


def parse_jobs(answer: Mapping[str, object]) -> Sequence[JobCheckpoints]:
    """The answer to `checkpoint.list`."""
    rows = answer.get("jobs")
    return [_parse_job(row) for row in (rows if isinstance(rows, list) else [])]


def parse_runs(answer: Mapping[str, object]) -> Sequence[StoredRun]:
    """The end of the answer to `checkpoint.stored`, newest first; what is no job's is left out."""
    runs = answer.get("runs")
    found = []
    for row in runs if isinstance(runs, list) else []:
        job = row.get("job") if isinstance(row, Mapping) else None
        if not isinstance(job, str) or not is_job_id(job):
            continue
        told = row.get("run")
        created = told.get("created") if isinstance(told, Mapping) else 0.0
        checkpoints = [parse_checkpoint(job, one) for one in row.get("checkpoints") or ()]
        since = float(created) if isinstance(created, int | float) else 0.0
        found.append(StoredRun(job, since, checkpoints, dict(_starts(row.get("starts")))))
    return sorted(found, key=lambda run: run.created, reverse=True)


def _starts(rows: object) -> Iterable[tuple[int, manifest.Start]]:
    for row in rows if isinstance(rows, list) else []:
        numbers = [row.get(name) for name in ("attempt", "from_attempt", "from_step")]
        attempt, began, step = (one if isinstance(one, int) else None for one in numbers)
        if attempt is not None:
            yield attempt, manifest.Start(attempt, began, step)


def check_checkpoint_name(name: object) -> str:
    """`name`, when it is that of a checkpoint, and so of one folder; ValueError otherwise."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name of a checkpoint")
    return name


def choose_job(word: str | None, jobs: Sequence[JobCheckpoints]) -> JobCheckpoints:
    """The job that `word` begins; by default the one whose checkpoint is the newest."""
    if word is None:
        having = [job for job in jobs if job.newest is not None]
        if having:
            return max(having, key=_newest_saved)
        raise CheckpointNotFound(
            "no job has a checkpoint there",
            hint='[checkpoints] dir = "…" in colabdev.toml says where a job writes them',
        )
    ids = matching(word, [job.job for job in jobs])
    if len(ids) == 1:
        return next(job for job in jobs if job.job == ids[0])
    if ids:
        named = ", ".join(ids[:_NAMED])
        raise UsageError(f"{word!r} may be {named}", hint="type more of its id")
    raise CheckpointNotFound(
        f"no job {word!r} has checkpoints there", hint="colabdev checkpoints ls lists them"
    )


def choose_checkpoint(word: str | None, job: str, known: Sequence[Checkpoint]) -> Checkpoint:
    """The one that is called `word`, or was saved at that step last; by default the newest."""
    if word is None and known:
        return known[0]
    for one in known:
        if one.name == word:
            return one
    for one in known:
        if word is not None and word.isdigit() and one.step == int(word):
            return one
    raise CheckpointNotFound(
        f"the job {job} has no checkpoint {word!r}" if word else f"{job} has no checkpoint",
        hint=f"colabdev checkpoints ls {job}",
    )


def describe_checkpoint(one: Checkpoint) -> str:
    """What people call it: its step, or its name when it has none."""
    return f"step {one.step}" if one.step is not None else one.name


def durable_of(jobs: Sequence[JobCheckpoints], now: float) -> Durable | None:
    """How the job stands whose checkpoint is the newest; None when none has any."""
    having = [job for job in jobs if job.newest is not None]
    if not having:
        return None
    job = max(having, key=_newest_saved)
    best = job.safe or max(job.checkpoints, key=lambda one: manifest.rank_of(one.level))
    return Durable(
        job=job.job,
        step=best.step,
        level=best.level,
        age_s=max(now - best.since, 0),
        at_risk_steps=job.at_risk_steps,
        at_risk_s=job.at_risk_s,
        is_safe=job.safe is not None,
    )


def describe_durable(durable: Durable) -> str:
    """`safe: step 1180 (CONFIRMED), 38 s ago; would lose 60 steps, 1m52s`."""
    step = "a checkpoint" if durable.step is None else f"step {durable.step}"
    level = f"{step} ({durable.level.upper()})"
    if durable.is_safe:
        said = f"safe: {level}, {format_age(durable.age_s)} ago"
    else:
        said = f"nothing is safe yet: {level}"
    lost = list(_losses(durable))
    return f"{said}; would lose {', '.join(lost)}" if lost else said


def _losses(durable: Durable) -> Iterable[str]:
    if durable.at_risk_steps:
        steps = durable.at_risk_steps
        yield "1 step" if steps == 1 else f"{steps} steps"
    if durable.at_risk_s and durable.at_risk_s >= 1:
        yield format_exact_age(durable.at_risk_s)


def format_exact_age(seconds: float) -> str:
    """`8s`, `1m52s`, `3h05m`: how much work something is, in two units."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def _newest_saved(job: JobCheckpoints) -> float:
    return job.newest.saved if job.newest else 0.0


def _parse_job(row: object) -> JobCheckpoints:
    try:
        if not isinstance(row, Mapping) or not is_job_id(str(row["job"])):
            raise TypeError("it is no job")
        job = str(row["job"])
        accept = str(row["accept"])
        manifest.rank_of(accept)
        problems: Mapping[str, Any] = row.get("problems") or {}
        token: Mapping[str, Any] = row.get("token") or {}
        steps, seconds = row.get("at_risk_steps"), row.get("at_risk_s")
        folder = str(row.get("folder") or "")
        checkpoints = [parse_checkpoint(job, one, folder) for one in row.get("checkpoints") or ()]
        safe = row.get("safe")
        return JobCheckpoints(
            job=job,
            accept=accept,
            stores=[str(one) for one in row.get("stores") or ()],
            checkpoints=checkpoints,
            safe=None if safe is None else parse_checkpoint(job, safe),
            is_safe=bool(row.get("is_safe")),
            at_risk_steps=None if steps is None else int(steps),
            at_risk_s=None if seconds is None else float(seconds),
            problems={str(key): str(why) for key, why in problems.items() if why},
            wants_token=bool(token.get("wanted")),
            is_unattended=bool(token.get("unattended")),
            is_carried=bool(row.get("runs")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ProtocolError(
            f"the runtime described its checkpoints in a way that makes no sense: {exc}",
            hint="update colabdev on both sides: colabdev connect",
        ) from exc
