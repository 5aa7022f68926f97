"""Noticing changes: every way to do it passes the same tests, and one falls back to another."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from colabdev.adapters.ignore_files import compile_rules
from colabdev.adapters.project_watch import SystemEvents
from colabdev.agent import noticing
from colabdev.agent.inotify import Inotify
from colabdev.agent.noticing import Lookout, Noticer
from colabdev.agent.rules import Placed, Rules, RuleSet
from colabdev.agent.worth_watching import ANYTHING, Unwatchable, Walk, Watching, known

RULES = Rules(
    [Placed("", "", RuleSet(compile_rules(["*.log", "node_modules", "ignored/"])))],
    own=RuleSet(compile_rules(["/.colabdev/"])),
    outputs=RuleSet(compile_rules(["runs/"])),
    output_roots=["runs/"],
)
WAIT_S = 10.0
WAYS: dict[str, Callable[[Walk], Watching]] = {
    "inotify": Inotify,
    "looking": Lookout,
    "events": SystemEvents,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for path in ("kept/a.py", "ignored/known.py", "node_modules/x/y.js", ".git/index", "runs/1"):
        write(root, path)
    write(root, "venv/.gitignore", "*\n")
    return root


@pytest.fixture(params=list(WAYS))
def noticer(
    root: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Noticer]:
    monkeypatch.setattr(noticing, "_SHORTEST_PAUSE_S", 0.05)
    monkeypatch.setattr(noticing, "_SHARE", 1.0)
    noticer = Noticer(walk(root), WAYS[request.param])
    assert (noticer.how, noticer.because) == (request.param, "")
    yield noticer
    noticer.close()


def walk(root: Path) -> Walk:
    return Walk(str(root), RULES, known({"ignored/known.py"}))


def write(root: Path, path: str, content: str = "1") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content)


def changes_until(noticer: Noticer, *wanted: str) -> set[str]:
    """What was told, up to and with what is wanted, or a folder that it lies in."""
    told: set[str] = set()
    while not all(path in told or _folders(path) & told for path in wanted):
        changed = noticer.wait(WAIT_S)
        assert changed, f"{wanted} was not told, but {told}"
        told |= changed
    return told


def _folders(path: str) -> set[str]:
    parts = path.split("/")[:-1]
    return {"/".join(parts[: count + 1]) + "/" for count in range(len(parts))}


def test_what_belongs_to_the_project_is_told_and_nothing_else(noticer: Noticer, root: Path) -> None:
    for path in ("a.log", "node_modules/x/z.js", ".git/HEAD", ".colabdev/journal", "runs/2"):
        write(root, path)
    write(root, "kept/a.py", "22")
    write(root, "ignored/known.py", "22")
    write(root, "new/folder/b.py")
    told = changes_until(noticer, "kept/a.py", "ignored/known.py", "new/folder/b.py")
    write(root, "new/folder/b.py", "22")
    (root / "kept" / "a.py").unlink()
    told |= changes_until(noticer, "new/folder/b.py", "kept/a.py")
    ours = ("kept", "ignored/known.py", "new")
    assert all(path.startswith(ours) for path in told), told


def test_a_save_by_rename_and_a_folder_that_moved_are_told(noticer: Noticer, root: Path) -> None:
    write(root, "kept/draft", "22")
    (root / "kept" / "draft").rename(root / "kept" / "a.py")
    changes_until(noticer, "kept/a.py")
    (root / "kept").rename(root / "moved")
    assert noticer.wait(WAIT_S)
    while noticer.wait(0.2):
        pass
    write(root, "moved/a.py", "333")
    changes_until(noticer, "moved/a.py")


def test_nothing_is_told_while_nothing_happens(noticer: Noticer) -> None:
    assert noticer.wait(0.3) == set()


def test_a_folder_that_ignores_itself_is_not_looked_into(root: Path) -> None:
    noticer = Noticer(walk(root))
    write(root, "venv/bin/python")
    write(root, "mark")
    assert changes_until(noticer, "mark") == {"mark"}
    noticer.close()


def test_a_root_that_goes_is_told(root: Path) -> None:
    noticer = Noticer(walk(root))
    shutil.rmtree(root)
    changes_until(noticer, ANYTHING)
    noticer.close()


def test_without_inotify_it_looks_and_says_why(root: Path) -> None:
    def refuse(walk: Walk) -> Watching:
        raise Unwatchable("the limit is reached")

    noticer = Noticer(walk(root), refuse)
    assert (noticer.how, noticer.because) == ("looking", "the limit is reached")


def test_a_limit_that_is_reached_later_is_no_silence(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noticer = Noticer(walk(root))

    def refuse(*_: object) -> bool:
        raise Unwatchable("the limit is reached")

    monkeypatch.setattr(Inotify, "_add", refuse)  # A real limit is the whole machine's.
    (root / "new").mkdir()
    assert noticer.wait(WAIT_S) == {ANYTHING}
    assert (noticer.how, noticer.because) == ("looking", "the limit is reached")


def test_more_than_the_kernel_keeps_is_anything(root: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 50_000:
        pytest.skip("the kernel keeps too many")
    noticer = Noticer(walk(root))
    for _ in range(limit // 2 + 100):
        os.utime(root / "kept" / "a.py")
        os.utime(root / "ignored" / "known.py")
    (root / "unseen").mkdir()
    changes_until(noticer, ANYTHING)
    write(root, "unseen/b.py")
    changes_until(noticer, "unseen/b.py")
    noticer.close()


def test_git_at_work_is_waited_for_but_not_for_ever(root: Path) -> None:
    lock = root / ".git" / "index.lock"
    lock.touch()
    stale = lock.stat().st_mtime - noticing.LONGEST_GIT_S - 1
    os.utime(lock, (stale, stale))
    noticing.wait_for_git(str(root / "kept"))
    linked = root / "linked"
    write(root, "linked/.git", "gitdir: ../.git/worktrees/linked\n")
    noticing.wait_for_git(str(linked))
    write(root, ".git/worktrees/linked/index.lock")
    place = noticing.git_index(str(linked))
    assert Path(place).parent.samefile(root / ".git/worktrees/linked")
