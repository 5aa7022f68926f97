"""`checkpoints restore`: one from Drive, or from this computer, on a runtime's disk again, proved."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace

from colabdev.agent import manifest
from colabdev.agent.changes import Frame
from colabdev.core.checkpoints import (
    Checkpoint,
    choose_checkpoint,
    parse_checkpoint,
)
from colabdev.core.workdirs import usable_machine
from colabdev.errors import BehindProved, CheckpointNotFound, ColabdevError, UsageError
from colabdev.models import RuntimeRecord
from colabdev.models.recovery import Resumed
from colabdev.ports import AgentStream, CheckpointCopies, Keepers, Meter, Progress
from colabdev.services.checkpoint_lists import (
    StoreChoice,
    copies_here,
    find_store,
    order_of,
    run_in_store,
    runs_in_store,
)

_NAMED = 5
_Rank = tuple[int, int]
_NEVER = (-1, -1)
_BEHIND = "behind"
_NOTHING = "nothing"
_WAIT_S = 120.0
"""So long what was proved may take to show on a machine that is new to Drive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreWish:
    """What is to be put on the runtime; None for the newest, and for the usual place."""

    job: str | None = None
    name: str | None = None
    to: str | None = None
    accept_rollback: bool = False
    """Also one that is older than the newest that was proved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestWish:
    """What a job is to go on from."""

    job: str
    minimum: Resumed | None
    """The newest that anybody here heard was safe."""
    starts: Mapping[int, manifest.Start]
    """Where its attempts began, as far as is known here."""
    accept_rollback: bool = False


@dataclass(frozen=True, slots=True)
class RestoredCheckpoint:
    """One that is whole on the runtime's disk again."""

    checkpoint: Checkpoint
    path: str
    rejected: Sequence[tuple[str, str]] = ()
    """Newer ones, and what was wrong with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRestorer:
    """Takes what verifies, from a store or from here, and never falls back in silence behind what was
    proved."""

    keepers: Keepers
    copies: CheckpointCopies
    meter: Meter
    store: StoreChoice

    def restore(
        self, runtime: RuntimeRecord, project: str | None, wish: RestoreWish
    ) -> RestoredCheckpoint:
        """Put it on the runtime; by default the newest of the job's lineage that verifies. From this
        computer comes only what the store has not, or not so new."""
        to = posixpath.join(usable_machine(runtime).content_dir, wish.to or "restored")
        here = copies_here(self.copies)
        with closing(self.keepers.agent(runtime.name)) as agent:
            place = find_store(runtime, project, self.store)
            runs = [run.job for run in runs_in_store(agent, place)] if place else []
            job = _choose_id(wish.job, [*runs, *(one.job for one in here)])
            to = to if wish.to else posixpath.join(to, job)
            own = [one for one in here if one.job == job]
            stored: Sequence[Checkpoint] = ()
            if place and job in runs:
                run = run_in_store(agent, place, job)
                stored, own = run.checkpoints, [one for one in own if run.has_in_lineage(one)]
            copy = _only_here(job, wish.name, stored, own)
            if copy is not None or place is None:
                return self._send(agent, copy or own[0], to)
            name = choose_checkpoint(wish.name, job, stored).name if wish.name else None
            minimum = None if wish.accept_rollback or name else _newest_proved([*stored, *own])
            asked = {**place, "job": job, "name": name, "to": to, "minimum": minimum}
            end = self._ask(agent, {**asked, "wait_s": 0.0 if own else _WAIT_S})
            if own and name is None and end.get("problem"):
                return self._send(agent, own[0], to)
            return _restored(job, end)

    def newest(
        self,
        runtime: RuntimeRecord,
        place: Mapping[str, object] | None,
        wish: NewestWish,
        progress: Progress,
    ) -> RestoredCheckpoint | None:
        """Put the newest of the job that verifies on the runtime, from its store or from here; None when
        there is none, and nobody ever heard of one.

        BehindProved when all that is to be had is older than what anybody here or the store itself knows
        as safe, and that is not accepted; ColabdevError when a store does not tell.
        """
        job = wish.job
        end: Mapping[str, object] = {}
        to = posixpath.join(usable_machine(runtime).content_dir, "restored", job)
        own = self._whole_copy(job, wish.starts)
        here = _NEVER if own is None else _mark(own).rank
        at_least = max(here, _NEVER if wish.accept_rollback else _rank(wish.minimum))
        with closing(self.keepers.agent(runtime.name)) as agent:
            if place is not None:
                asked = {
                    **place,
                    **{"job": job, "name": None, "to": to},
                    "minimum": None if at_least == _NEVER else list(at_least),
                    "proved": not wish.accept_rollback,
                    "wait_s": 0.0 if here == at_least else _WAIT_S,
                }
                end = self._ask(agent, asked, progress)
                if here == at_least < _rank_of(end.get("minimum")):
                    # The store itself knows of a newer one than the copy that is here.
                    end = self._ask(agent, {**asked, "wait_s": _WAIT_S}, progress)
                if end.get("row") and not end.get("problem"):
                    return _restored(job, end)
                if end.get("problem") not in (_BEHIND, _NOTHING):
                    raise ColabdevError(
                        f"cannot restore {job}: {end.get('problem')}",
                        hint=f"colabdev checkpoints ls {job}",
                    )
                at_least = max(at_least, _rank_of(end.get("minimum")))
            if own is not None and here >= at_least:
                return self._send(agent, own, to)
        if at_least == _NEVER:
            return None
        raise BehindProved(
            f"{_describe(at_least)} of {job} was proved safe, and {_to_be_had(end, here)}",
            hint=f"colabdev run --continue {job} looks again, Drive may only be late; with "
            "--accept-rollback it goes on from what there is",
        )

    def _whole_copy(self, job: str, starts: Mapping[int, manifest.Start]) -> Checkpoint | None:
        """The newest copy here of what the job went on with, every hash right."""
        for one in copies_here(self.copies):
            if one.job != job or not manifest.is_in_lineage(one.attempt, one.step, starts):
                continue
            if self.copies.damage(job, one.name) is None:
                return one
        return None

    def _ask(
        self,
        agent: AgentStream,
        asked: Mapping[str, object],
        progress: Progress = lambda step: None,
    ) -> Mapping[str, object]:
        said = ""
        for header, _ in agent.stream("checkpoint.restore", asked):
            if header.get("end"):
                return header
            if header.get("waiting"):
                mark = _describe(_rank_of(header["waiting"]))
                if said != (said := f"waiting for {mark}, which was proved and does not show yet"):
                    progress(said)
            done, size = header.get("done"), header.get("size")
            if isinstance(done, int) and isinstance(size, int):
                self.meter("received", done, size)
        raise AssertionError("the agent's stream ends with `end`, or raises")

    def _send(self, agent: AgentStream, copy: Checkpoint, to: str) -> RestoredCheckpoint:
        """Have the runtime take the copy that is here; what it has of it already is not sent again."""
        content = self.copies.manifest(copy.job, copy.name)
        answer, _ = agent.request("checkpoint.received", {"to": to}, content)
        sizes = answer.get("sizes")
        frames = self._frames(copy, content, sizes if isinstance(sizes, list) else [])
        answer, _ = agent.upload("checkpoint.receive", {"to": to}, frames)
        if answer.get("problem"):
            raise ColabdevError(
                f"cannot restore {copy.name} of {copy.job} from here: {answer['problem']}",
                hint=f"colabdev checkpoints verify {copy.job}",
            )
        return RestoredCheckpoint(replace(copy, is_on_runtime=True), str(answer.get("path")))

    def _frames(self, copy: Checkpoint, content: bytes, sizes: Sequence[int]) -> Iterator[Frame]:
        done = sum(sizes)
        yield {}, content
        for number, (entry, offset) in enumerate(
            zip(manifest.parse(content).files, sizes, strict=True)
        ):
            at = offset
            for piece in self.copies.read(copy.job, copy.name, entry.path, offset):
                yield {"number": number, "offset": at}, piece
                at, done = at + len(piece), done + len(piece)
                self.meter("sent", done, copy.size_bytes)
        yield {"end": True}, b""


def _only_here(
    job: str, word: str | None, stored: Sequence[Checkpoint], own: Sequence[Checkpoint]
) -> Checkpoint | None:
    """The copy that is meant, when the store has it not, or nothing as new."""
    if word is not None:
        with suppress(CheckpointNotFound):
            choose_checkpoint(word, job, stored)
            return None
        return choose_checkpoint(word, job, own)
    if not own or (stored and order_of(stored[0]) >= order_of(own[0])):
        return None
    return own[0]


def _newest_proved(known: Sequence[Checkpoint]) -> tuple[int, int] | None:
    """Attempt and step of the newest that was proved, as far as anybody here knows."""
    marks = [
        (one.attempt, one.step)
        for one in known
        if one.step is not None and one.level == manifest.CONFIRMED
    ]
    return max(marks, default=None)


def _choose_id(word: str | None, jobs: Sequence[str]) -> str:
    """The job that is meant among those of which something is stored; by default the first."""
    ids = list(dict.fromkeys(job for job in jobs if word is None or job.startswith(word)))
    if not ids:
        raise CheckpointNotFound(
            f"nothing is stored of a job {word!r}" if word else "no checkpoint is stored",
            hint="colabdev checkpoints ls lists what there is",
        )
    if word is not None and len(ids) > 1:
        raise UsageError(
            f"{word!r} may be {', '.join(ids[:_NAMED])}", hint="type more of the job's id"
        )
    return ids[0]


def _restored(job: str, end: Mapping[str, object]) -> RestoredCheckpoint:
    rows = end.get("rejected")
    rejected = [(str(name), str(why)) for name, why in (rows if isinstance(rows, list) else [])]
    problem = end.get("problem")
    if problem == _BEHIND:
        raise _behind(job)
    if problem or not end.get("row"):
        named = "; ".join(f"{name}: {why}" for name, why in rejected[:3])
        reason = "none on Drive is whole" if problem in (None, _NOTHING) else problem
        raise CheckpointNotFound(
            f"cannot restore {job}: {reason}" + (f" ({named})" if named else ""),
            hint=f"colabdev checkpoints ls {job}",
        )
    return RestoredCheckpoint(parse_checkpoint(job, end["row"]), str(end["path"]), rejected)


def _behind(job: str) -> CheckpointNotFound:
    return CheckpointNotFound(
        f"cannot restore {job}: the newest on Drive is older than one that was proved",
        hint="Drive may list it later: type it again; --accept-rollback takes the older one",
    )


def _mark(one: Checkpoint) -> Resumed:
    return Resumed(one.attempt, one.step)


def _rank(mark: Resumed | None) -> _Rank:
    return _NEVER if mark is None else mark.rank


def _rank_of(told: object) -> _Rank:
    """Attempt and step, as a runtime tells them."""
    if isinstance(told, list) and len(told) == 2 and all(isinstance(one, int) for one in told):
        return told[0], told[1]
    return _NEVER


def _describe(rank: _Rank) -> str:
    attempt, step = rank
    return f"a checkpoint of attempt {attempt}" if step < 0 else f"step {step} of attempt {attempt}"


def _to_be_had(end: Mapping[str, object], here: _Rank) -> str:
    """What there is instead: in the store, or here."""
    row = end.get("row")
    there = _NEVER
    if isinstance(row, Mapping):
        step = row.get("step")
        there = _rank_of([row.get("attempt"), -1 if step is None else step])
    newest = max(there, here)
    if newest == _NEVER:
        return "nothing of it is to be had"
    return f"the newest that is to be had is {_describe(newest)}"
