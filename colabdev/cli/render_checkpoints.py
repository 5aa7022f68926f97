"""Checkpoints in words and in JSON."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from colabdev.cli.output import document, line, printable, say
from colabdev.cli.render import table
from colabdev.core.checkpoints import describe_checkpoint
from colabdev.core.sizes import format_size
from colabdev.core.times import format_age, format_time

if TYPE_CHECKING:
    from colabdev.core.checkpoints import Checkpoint
    from colabdev.services.checkpoint_push import Pushed
    from colabdev.services.checkpoint_restore import RestoredCheckpoint
    from colabdev.services.checkpoints import CheckpointListing, Pruned, PulledCheckpoint, Verdict


def listing(found: CheckpointListing, *, as_json: bool) -> None:
    """All checkpoints that were found."""
    if as_json:
        document({"checkpoints": [checkpoint_json(one) for one in found.checkpoints]})
    elif found.checkpoints:
        now = time.time()
        table(
            ("JOB", "NAME", "STEP", "SAVED", "LEVEL", "SIZE", "STORE", "WHERE"),
            [
                (
                    one.job,
                    one.name,
                    "-" if one.step is None else str(one.step),
                    f"{format_age(now - one.saved)} ago" if one.saved else "-",
                    level_of(one),
                    format_size(one.size_bytes),
                    one.store,
                    one.path,
                )
                for one in found.checkpoints
            ],
        )
    elif not found.unasked:
        line(
            "no checkpoint is known; [checkpoints] dir in colabdev.toml says where jobs write them"
        )
    for sentence in found.unasked:
        say(printable(sentence))
    if found.unasked:
        say("  next: colabdev status says how the runtime is")


def verdicts(found: Iterable[Verdict], *, as_json: bool) -> bool:
    """What `verify` found, as it finds it; whether all of it is as it should be."""
    rows, sound, seen = [], True, False
    for one in found:
        sound, seen = sound and not one.problem, True
        if as_json:
            rows.append(
                {
                    "job": one.job,
                    "name": one.name,
                    "store": one.store,
                    "level": one.level or None,
                    "problem": one.problem or None,
                }
            )
        else:
            how = one.problem or f"verified, {one.level.upper()}"
            line(printable(f"{one.job} {one.name} in {one.store}: {how}"))
    if as_json:
        document({"checkpoints": rows})
    elif not seen:
        line("there is nothing to verify")
    return sound


def pushed(done: Pushed, *, as_json: bool) -> None:
    """How far a checkpoint came."""
    if as_json:
        problem = done.problem or None
        row = checkpoint_json(done.checkpoint)
        document({"checkpoint": row, "safe": done.is_safe, "problem": problem})
        return
    how = "is safe" if done.is_safe else "is not safe yet"
    line(f"{_what(done.checkpoint)} {how}: {level_of(done.checkpoint)} by {done.checkpoint.store}")
    if done.problem:
        say(f"  because {printable(done.problem)}")


def pulled(done: PulledCheckpoint, *, as_json: bool) -> None:
    """The copy on this computer."""
    if as_json:
        row = checkpoint_json(done.checkpoint)
        document({"checkpoint": {**row, "store": "pull", "path": str(done.path)}})
        return
    size = format_size(done.checkpoint.size_bytes)
    line(printable(f"{_what(done.checkpoint)} is in {done.path}: {size}, verified"))


def pruned(done: Pruned, *, dry_run: bool, as_json: bool) -> None:
    """What went, or would."""
    if as_json:
        removed = [
            {"name": name, "store": store, "bytes": size} for name, store, size in done.removed
        ]
        kept = [{"name": name, "reason": why} for name, why in done.kept]
        document({"job": done.job, "removed": removed, "kept": kept, "dry_run": dry_run})
        return
    word = "would delete" if dry_run else "deleted"
    for name, store, size in done.removed:
        line(f"{word} {name} of {done.job} from {store}, {format_size(size)}")
    for name, why in done.kept:
        line(printable(f"{name} stays: {why}"))
    if not done.removed:
        line(f"nothing of {done.job} is old enough to go")


def restored(done: RestoredCheckpoint, *, as_json: bool) -> None:
    """The checkpoint that is whole on the runtime again."""
    if as_json:
        rejected = [{"name": name, "problem": why} for name, why in done.rejected]
        row = {**checkpoint_json(done.checkpoint), "path": done.path}
        document({"checkpoint": row, "rejected": rejected})
        return
    for name, why in done.rejected:
        say(printable(f"{name} cannot be used: {why}"))
    line(
        printable(f"{_what(done.checkpoint)} is in {done.path} on the runtime, every hash verified")
    )


def checkpoint_json(one: Checkpoint) -> dict[str, Any]:
    """A checkpoint as the JSON contract has it."""
    return {
        "job": one.job,
        "name": one.name,
        "step": one.step,
        "attempt": one.attempt,
        "level": one.level,
        "size_bytes": one.size_bytes,
        "sha256": one.sha256,
        "store": one.store,
        "path": one.path,
        "saved": format_time(datetime.fromtimestamp(one.saved, UTC)) if one.saved else None,
        "unproven": one.unproven,
    }


def level_of(one: Checkpoint) -> str:
    """The level as people read it; what nobody will ever prove is called so."""
    return f"{one.level.upper()}, unproven" if one.unproven else one.level.upper()


def _what(one: Checkpoint) -> str:
    return f"{describe_checkpoint(one)} of {one.job}"
