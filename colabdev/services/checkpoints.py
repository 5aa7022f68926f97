"""`checkpoints`: what there is of a job's, wherever it is, and what people do with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from colabdev.agent import manifest
from colabdev.core.checkpoints import (
    Checkpoint,
    StoredRun,
    choose_checkpoint,
    choose_job,
    describe_checkpoint,
)
from colabdev.errors import CheckpointNotFound, ColabdevError
from colabdev.models import RuntimeRecord
from colabdev.ports import AgentStream, BrokenCopy, CheckpointCopies, Keepers, Meter, Progress
from colabdev.services.checkpoint_lists import (
    StoreChoice,
    copies_here,
    find_store,
    jobs_on,
    run_in_store,
    runs_in_store,
)
from colabdev.services.checkpoint_pull import bring
from colabdev.services.checkpoint_push import Pushed, Pusher

HERE = "here"
"""In the place of a store's name: the copies on this computer."""


@dataclass(frozen=True, slots=True)
class CheckpointListing:
    """The checkpoints that were found, newest first for each job, and what could not be asked."""

    checkpoints: Sequence[Checkpoint]
    unasked: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one checkpoint in one store. `problem` is "" when every hash is right."""

    job: str
    name: str
    store: str
    level: str
    problem: str


@dataclass(frozen=True, slots=True)
class PulledCheckpoint:
    """A verified copy on this computer."""

    checkpoint: Checkpoint
    path: Path


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went, or would: checkpoints with their store and bytes; and why others stay."""

    job: str
    removed: Sequence[tuple[str, str, int]]
    kept: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """The checkpoints of one runtime's jobs, of its Drive, and those that are here."""

    keepers: Keepers
    copies: CheckpointCopies
    meter: Meter
    store: StoreChoice

    def find(
        self, runtime: RuntimeRecord | None, project: str | None, word: str | None
    ) -> CheckpointListing:
        """All that is known: on the runtime, on its Drive of jobs that ran elsewhere, and here.

        `runtime` is None when none is up; then those here are all that can be told.
        """
        found: list[Checkpoint] = []
        here = copies_here(self.copies)
        unasked: list[str] = []
        if runtime is not None:
            try:
                with closing(self._agent(runtime)) as agent:
                    jobs = jobs_on(agent, runtime)
                    found += [one for job in jobs for one in job.checkpoints]
                    place = find_store(runtime, project, self.store)
                    if place is not None:
                        stored = _stored(agent, place, {job.job for job in jobs}, word)
                        found += [one for run in stored for one in run.checkpoints]
                        here = [one for one in here if _is_in_lineage(one, stored)]
            except ColabdevError as exc:
                if not here:
                    raise
                unasked.append(f"{runtime.name} does not tell of all: {exc.message}")
        found += _others(found, here)
        if word is not None:
            found = [one for one in found if one.job.startswith(word)]
            if not found and not unasked:
                raise CheckpointNotFound(
                    f"no job {word!r} has checkpoints that are known",
                    hint="colabdev checkpoints ls lists all of them",
                )
        return CheckpointListing(found, unasked)

    def verify(
        self, runtime: RuntimeRecord, word: str | None, name: str | None
    ) -> Iterator[Verdict]:
        """Read every byte of them wherever they are, and compare: those of `word`'s job, by default
        the newest's."""
        with closing(self._agent(runtime)) as agent:
            job = choose_job(word, jobs_on(agent, runtime))
            names = [choose_checkpoint(name, job.job, job.checkpoints).name] if name else None
            for header, _ in agent.stream("checkpoint.verify", {"job": job.job, "names": names}):
                if header.get("end"):
                    break
                if "name" in header:
                    yield _verdict(job.job, header)
        for here in self.copies.names(job.job):
            if names is None or here in names:
                problem = self.copies.damage(job.job, here)
                level = "" if problem else manifest.CONFIRMED
                yield Verdict(job.job, here, HERE, level, problem or "")

    def push(
        self,
        runtime: RuntimeRecord,
        word: str | None,
        name: str | None,
        timeout_s: float,
        progress: Progress,
    ) -> Pushed:
        """Have one made safe now, by default the newest there is, and wait until it is."""
        with closing(self._agent(runtime)) as agent:
            job = choose_job(word, jobs_on(agent, runtime))
            chosen = choose_checkpoint(name, job.job, job.checkpoints).name if name else None
            pusher = Pusher(
                copies=self.copies, meter=self.meter, progress=progress, timeout_s=timeout_s
            )
            return pusher.push(agent, job, chosen)

    def pull(
        self, runtime: RuntimeRecord, word: str | None, name: str | None, to: Path | None
    ) -> PulledCheckpoint:
        """Have a verified copy here, by default of the newest, and in `to` as well."""
        with closing(self._agent(runtime)) as agent:
            job = choose_job(word, jobs_on(agent, runtime))
            there = [one for one in job.checkpoints if one.is_on_runtime]
            wanted = choose_checkpoint(name, job.job, there)
            try:
                pulled = bring(agent, wanted, self.copies, self.meter)
            except BrokenCopy as exc:
                raise ColabdevError(
                    f"cannot bring {describe_checkpoint(wanted)} of {job.job} here: {exc}",
                    hint=f"colabdev checkpoints verify {job.job} looks at what is there",
                ) from exc
        if to is None:
            return PulledCheckpoint(pulled, self.copies.path(job.job, wanted.name))
        self.copies.export(job.job, wanted.name, to)
        return PulledCheckpoint(pulled, to)

    def prune(
        self, runtime: RuntimeRecord, word: str | None, keep: int, *, dry_run: bool
    ) -> Pruned:
        """Delete old ones from the runtime and its stores. What is newest, best or safe stays."""
        with closing(self._agent(runtime)) as agent:
            job = choose_job(word, jobs_on(agent, runtime))
            asked = {"job": job.job, "keep": keep, "check_only": dry_run}
            answer, _ = agent.request("checkpoint.prune", asked)
        removed = [
            (str(name), str(store), int(size)) for name, store, size in _rows(answer, "removed")
        ]
        kept = [(str(name), str(why)) for name, why in _rows(answer, "kept")]
        return Pruned(job.job, removed, kept)

    def _agent(self, runtime: RuntimeRecord) -> AgentStream:
        return self.keepers.agent(runtime.name)


def _others(known: Sequence[Checkpoint], more: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
    names = {(one.job, one.name) for one in known}
    return [one for one in more if (one.job, one.name) not in names]


def _stored(
    agent: AgentStream, place: Mapping[str, object], known: Collection[str], word: str | None
) -> Sequence[StoredRun]:
    """What Drive has of jobs that are not known."""
    return [
        run_in_store(agent, place, run.job)
        for run in runs_in_store(agent, place)
        if run.job not in known and run.job.startswith(word or "")
    ]


def _is_in_lineage(one: Checkpoint, runs: Sequence[StoredRun]) -> bool:
    """A machine that was left behind may have saved what is no part of its job any more."""
    return all(run.has_in_lineage(one) for run in runs if run.job == one.job)


def _verdict(job: str, header: Mapping[str, object]) -> Verdict:
    return Verdict(
        job,
        str(header["name"]),
        str(header.get("store")),
        str(header.get("level") or ""),
        str(header.get("problem") or ""),
    )


def _rows(answer: Mapping[str, object], key: str) -> Sequence[Sequence[str]]:
    rows = answer.get(key)
    return rows if isinstance(rows, list) else []
