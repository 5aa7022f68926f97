"""What must hold of every sync, over random trees and edits on both sides."""

from __future__ import annotations

import math
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from colabdev.errors import RuntimeUnreachable
from colabdev.services.transfer import Transfer
from tests.support.piped import PipedProject
from tests.support.syncing import look

PATHS = ["a", "b", "d/a", "d/b", "d/e/f", "x", "x/y", "x/y/z", "\udcff", "ü", "d"]
CONTENTS = [b"", b"one", b"two", b"a" * 100, b"b" * 100, bytes(1_200_000), b"\0" * 1_199_999 + b"x"]

WRITE = st.tuples(st.just("write"), st.sampled_from(PATHS), st.sampled_from(CONTENTS))
DELETE = st.tuples(st.just("delete"), st.sampled_from(PATHS), st.just(b""))
TURN = st.tuples(st.just("chmod"), st.sampled_from(PATHS), st.just(b""))
LINK = st.tuples(st.just("link"), st.sampled_from(PATHS), st.sampled_from([b"a", b"nowhere"]))
MOVE = st.tuples(st.just("move"), st.sampled_from(PATHS), st.sampled_from([b"b", b"d/b", b"x"]))
MKDIR = st.tuples(st.just("mkdir"), st.sampled_from(PATHS), st.just(b""))
EDITS = st.lists(st.one_of(WRITE, WRITE, DELETE, TURN, LINK, MOVE, MKDIR), max_size=6)
Edit = tuple[str, str, bytes]
Look = dict[str, tuple[object, ...]]


@contextmanager
def a_project() -> Iterator[PipedProject]:
    with tempfile.TemporaryDirectory() as directory:
        project = PipedProject(Path(directory))
        for side in (project.local, project.remote):
            (side / "kept.log").write_text(f"of {side}")
            (side / "cache").mkdir()
            (side / "cache" / "x").write_text(f"of {side}")
        (project.local / ".gitignore").write_text("*.log\ncache/\n")
        yield project


def edit(root: Path, edits: list[Edit]) -> None:
    """Do what can be done of it, as somebody would who types."""
    for word, path, what in edits:
        place = root / path
        if word == "delete":
            remove(place)
        elif word == "move":
            target = root / os.fsdecode(what)
            if place.is_file() and not target.is_dir() and is_free(root, target):
                target.parent.mkdir(parents=True, exist_ok=True)
                place.rename(target)
        elif word == "chmod":
            if place.is_file() and not place.is_symlink():
                place.chmod(place.stat().st_mode ^ 0o111)
        elif word == "mkdir":
            if is_free(root, place) and not place.is_symlink() and not place.exists():
                place.mkdir(parents=True)
        elif is_free(root, place):
            remove(place)
            place.parent.mkdir(parents=True, exist_ok=True)
            if word == "link":
                place.symlink_to(os.fsdecode(what))
            else:
                place.write_bytes(what)


def remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    elif place.is_symlink() or place.exists():
        place.unlink()


def is_free(root: Path, place: Path) -> bool:
    """Whether only folders are above it."""
    above = place.parent
    while above != root:
        if above.is_symlink() or above.is_file():
            return False
        above = above.parent
    return True


def owned(root: Path) -> Look:
    return {
        path: what
        for path, what in look(root).items()
        if not path.endswith(".log") and not path.startswith("cache/")
    }


def empty_folders(root: Path) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_dir() and not path.is_symlink() and not any(path.iterdir())
    }


def edited(root: Path, ancestor: Look) -> Look:
    """What is other than both sides had at first: going back to that exactly is no edit for whoever was
    not told of what came between, and no content tells of a mode."""
    return {path: what for path, what in owned(root).items() if what != ancestor.get(path)}


def strangers(root: Path) -> Look:
    return {path: what for path, what in look(root).items() if path not in owned(root)}


def times(root: Path) -> dict[str, int]:
    return {
        path.relative_to(root).as_posix(): path.lstat().st_mtime_ns
        for path in root.rglob("*")
        if ".colabdev" not in path.relative_to(root).parts
    }


def assert_no_edit_is_lost(before: tuple[Look, Look, Look], after: tuple[Look, Look]) -> None:
    """What one side had alone, it has still."""
    ancestor = before[0]
    for side in (0, 1):
        for path, what in before[side + 1].items():
            if what != ancestor.get(path):
                assert after[side].get(path) == what, f"{path!r} is lost on side {side}"


def check(initial: list[Edit], rounds: list[tuple[list[Edit], list[Edit]]]) -> None:
    with a_project() as project:
        edit(project.local, initial)
        assert not project.sync().problems
        kept = strangers(project.local), strangers(project.remote)
        for here, there in rounds:
            ancestor = owned(project.local)
            edit(project.local, here)
            edit(project.remote, there)
            before = (ancestor, owned(project.local), owned(project.remote))
            report = project.sync()
            after = (owned(project.local), owned(project.remote))
            assert_no_edit_is_lost(before, after)
            assert (strangers(project.local), strangers(project.remote)) == kept
            for _ in range(2):
                # Where something had to make room, the next one goes on.
                report = project.sync()
            assert not report.problems
            assert report.actions == ()
            assert report.sent_bytes == report.received_bytes == 0
            before_times = times(project.local), times(project.remote)
            assert project.sync().actions == ()
            assert (times(project.local), times(project.remote)) == before_times
            conflicting = {conflict.path for conflict in report.conflicts}
            if conflicting:
                # Whoever decides for one side has both equal.
                remove_conflicts(project, conflicting)
                project.sync()
                project.sync()
            assert owned(project.local) == owned(project.remote)
            assert empty_folders(project.local) == empty_folders(project.remote)


def check_after_a_cut(initial: list[Edit], rounds: list[tuple[list[Edit], list[Edit]]]) -> None:
    """The first sync of these edits ends when what was to come here came; then edits go on."""
    (here, there), (here_later, there_later) = rounds
    with a_project() as project:
        edit(project.local, initial)
        project.sync()
        ancestor = owned(project.local)
        edit(project.local, here)
        edit(project.remote, there)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Transfer, "send", cut_off)
            with suppress(RuntimeUnreachable):
                project.sync()
        both = set(owned(project.local).items()) & set(owned(project.remote).items())
        edit(project.local, here_later)
        edit(project.remote, there_later)
        before = (
            ancestor | dict(both),
            edited(project.local, ancestor),
            edited(project.remote, ancestor),
        )
        report = project.sync()
        assert_no_edit_is_lost(before, (owned(project.local), owned(project.remote)))
        for _ in range(2):
            report = project.sync()
        assert report.actions == ()


def cut_off(*_: object) -> None:
    raise RuntimeUnreachable("cut")


def remove_conflicts(project: PipedProject, paths: set[str]) -> None:
    for path in paths:
        remove(project.remote / path)


EXAMPLES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


@EXAMPLES
@given(EDITS, st.lists(st.tuples(EDITS, EDITS), min_size=1, max_size=2))
def test_both_sides_become_equal_and_nothing_is_lost(
    initial: list[Edit], rounds: list[tuple[list[Edit], list[Edit]]]
) -> None:
    check(initial, rounds)


@EXAMPLES
@given(EDITS, st.lists(st.tuples(EDITS, EDITS), min_size=2, max_size=2))
def test_nothing_is_lost_where_a_cut_came_between(
    initial: list[Edit], rounds: list[tuple[list[Edit], list[Edit]]]
) -> None:
    check_after_a_cut(initial, rounds)


@pytest.mark.long
@pytest.mark.timeout(3000)
@settings(EXAMPLES, max_examples=2000)
@given(EDITS, st.lists(st.tuples(EDITS, EDITS), min_size=1, max_size=4))
def test_both_sides_become_equal_and_nothing_is_lost_long(
    initial: list[Edit], rounds: list[tuple[list[Edit], list[Edit]]]
) -> None:
    check(initial, rounds)


def cut_campaign(tmp_path: Path, *, rounds: int, seed: int, limit_s: float = math.inf) -> int:
    """Syncs in both directions, cut at random bytes, as there is time for; the number of cuts."""
    dice = random.Random(seed)
    project = PipedProject(tmp_path / "campaign")
    cuts = 0
    begun = time.monotonic()
    for number in range(rounds):
        if time.monotonic() - begun > limit_s:
            break
        for side in (project.local, project.remote):
            for path in dice.sample([f"d{n % 3}/f{n}" for n in range(12)], 4):
                file = side / ("here" if side == project.local else "there") / path
                file.parent.mkdir(parents=True, exist_ok=True)
                size = dice.choice([0, 20, 5000, 1_500_000, 6_000_000])
                file.write_bytes(dice.randbytes(1000) + bytes(size))
        # Only of this round: all that ever was would be gigabytes after hundreds of them.
        known = set(owned(project.local).values()) | set(owned(project.remote).values())
        project.cut_after = dice.choice([dice.randint(1, 3000), dice.randint(1, 60_000)])
        try:
            project.sync()
        except RuntimeUnreachable:
            cuts += 1
        for side in (project.local, project.remote):
            assert set(owned(side).values()) <= known, f"round {number}: torn"
        project.cut_after = 10**12
        report = project.sync()
        assert (report.conflicts, report.problems) == ((), ()), f"round {number}"
        assert owned(project.local) == owned(project.remote)
        assert not (project.local / ".colabdev").exists()
        assert project.sync().actions == ()
    return cuts


class Killed(BaseException):
    """What happens to a process."""


STEPS = ["chmod", "mkdir", "replace", "rmdir", "symlink", "unlink", "utime"]


def test_stopped_at_any_step_of_either_side_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that changes a file is once the last one, here and there."""
    dice = random.Random(8)
    project = PipedProject(tmp_path / "steps")
    project.sync()
    stopped = 0
    for number in range(45):
        for side, name in ((project.local, "here"), (project.remote, "there")):
            remove(side / name / str((number - 1) % 3))
            edit(side, [("write", f"{name}/{number % 3}/f", dice.randbytes(9))])
            edit(side, [("write", f"{name}/f", dice.randbytes(9)), ("chmod", f"{name}/f", b"")])
            edit(side, [("link", f"{name}/l", dice.choice([b"f", b"g"]))])
        before = owned(project.local), owned(project.remote)
        with monkeypatch.context() as patch:
            countdown = [number]
            for step in STEPS:
                patch.setattr(os, step, dying(getattr(os, step), countdown))
            try:
                project.sync()
            except (Killed, RuntimeUnreachable):
                stopped += 1
        for side in (project.local, project.remote):
            known = {*before[0].items(), *before[1].items()}
            assert set(owned(side).items()) <= known, f"step {number}"
        report = project.sync()
        assert (report.conflicts, report.problems) == ((), ()), f"step {number}"
        assert owned(project.local) == owned(project.remote), f"step {number}"
        assert project.sync().actions == ()
    assert stopped >= 30


def dying(step: Callable[..., object], countdown: list[int]) -> Callable[..., object]:
    def die_or_do(*arguments: object, **more: object) -> object:
        countdown[0] -= 1
        if countdown[0] < 0:
            raise Killed
        return step(*arguments, **more)

    return die_or_do


def test_cut_anywhere_leaves_whole_files_and_the_next_sync_finishes(tmp_path: Path) -> None:
    assert cut_campaign(tmp_path, rounds=25, seed=5) >= 15


@pytest.mark.long
@pytest.mark.timeout(600)
def test_cut_anywhere_long(tmp_path: Path) -> None:
    assert cut_campaign(tmp_path, rounds=600, seed=6, limit_s=300) >= 60
