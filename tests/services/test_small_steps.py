"""Small steps between whole syncs: what they do is what a whole sync would have done."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colabdev.agent import changes, few_changes
from colabdev.agent.changes import Change
from colabdev.agent.tree import Problem, is_settled
from colabdev.agent.workdir import WorkDir
from colabdev.ports import SyncedProject
from colabdev.services.sync_report import SyncReport
from tests.services.test_sync_properties import (
    CONTENTS,
    DELETE,
    EXAMPLES,
    LINK,
    MOVE,
    PATHS,
    TURN,
    Edit,
    Look,
    assert_no_edit_is_lost,
    edit,
    owned,
    remove,
)
from tests.support.piped import PipedProject
from tests.support.waiting import wait_until

MORE_PATHS = [*PATHS, "d/e/g", "a.log", "cache/y", "d/.gitignore", "m.pt", "kept"]
WRITE = st.tuples(st.just("write"), st.sampled_from(MORE_PATHS), st.sampled_from(CONTENTS[:5]))
WAIT_S = 10
"""An agent answers, and then writes its books."""
EDITS = st.lists(st.one_of(WRITE, WRITE, WRITE, DELETE, TURN, LINK, MOVE), max_size=4)


@pytest.fixture
def project(tmp_path: Path) -> PipedProject:
    """Rules that are older than any scan: else nobody knows whether they changed since."""
    project = PipedProject(tmp_path)
    (project.local / "cache").mkdir()
    (project.local / "cache" / "x").write_text("ignored")
    (project.local / "kept").write_text("kept")
    rules = project.local / ".gitignore"
    rules.write_text("*.log\ncache/\n")
    settle(rules)
    return project


@pytest.fixture
def git_project(project: PipedProject) -> PipedProject:
    for words in (["init"], ["add", "."]):
        subprocess.run(["git", *words], cwd=project.local, check=True, capture_output=True)
    settle(project.local / ".git" / "index")
    return project


def settle(file: Path) -> None:
    wait_until(lambda: is_settled(file.stat(), time.time_ns()), message="it is as new as now")


def told_of(edits: list[Edit], before: Look, after: Look) -> set[str]:
    """The paths that whoever watches is told of, also of what came and went meanwhile."""
    touched = {path for _, path, _ in edits}
    touched |= {os.fsdecode(what) for word, _, what in edits if word == "move"}
    told = {path for path in touched if not path.endswith(".log") and path != "cache/y"}
    return told | {path for path, _ in before.items() ^ after.items()}


def scan(project: SyncedProject) -> tuple[dict[str, str], set[Problem], tuple[str, ...]]:
    found = project.tree.scan()
    marks = {entry.path: entry.fingerprint for entry in found.entries}
    return marks, set(found.problems), found.folders


@pytest.mark.parametrize("which", ["project", "git_project"])
def test_a_rescan_tells_what_a_scan_would(which: str, request: pytest.FixtureRequest) -> None:
    piped: PipedProject = request.getfixturevalue(which)
    told = []

    @EXAMPLES
    @given(EDITS, EDITS)
    def check(initial: list[Edit], edits: list[Edit]) -> None:
        reset(piped.local)
        edit(piped.local, initial)
        opened = piped.open()
        marks, problems, folders = scan(opened)
        before = owned(piped.local)
        edit(piped.local, edits)
        paths = told_of(edits, before, owned(piped.local))
        found = opened.tree.rescan(paths, folders)
        told.append(found is not None and len(paths) > 0)
        if found is not None:
            marks = {path: mark for path, mark in marks.items() if path not in found}
            marks |= {path: entry.fingerprint for path, entry in found.items() if entry}
            assert (marks, problems, folders) == scan(piped.open())

    check()
    assert sum(told) >= 10, "it must not be in doubt of everything"


@pytest.mark.parametrize("path", ["empty/deep/file", "empty"])
def test_a_file_where_an_empty_folder_was_is_more_than_that_file(
    project: PipedProject, path: str
) -> None:
    (project.local / "empty").mkdir()
    opened = project.open()
    _, _, folders = scan(opened)
    assert folders == ("empty",)
    edit(project.local, [("write", path, b"new")])
    assert opened.tree.rescan({path}, folders) is None


def reset(root: Path) -> None:
    """As the fixture made it."""
    for place in root.iterdir():
        if place.name not in (".git", ".gitignore", "cache", "kept"):
            remove(place)
    (root / "kept").write_text("kept")


def test_small_steps_do_what_a_whole_sync_would(project: PipedProject) -> None:
    small = []

    @EXAMPLES
    @given(EDITS, st.lists(st.tuples(EDITS, EDITS), min_size=1, max_size=3))
    def check(initial: list[Edit], rounds: list[tuple[list[Edit], list[Edit]]]) -> None:
        reset(project.local)
        edit(project.local, [edited for edited in initial if edited[1] != "kept"])
        opened = project.open()
        project.sync_opened(opened)
        for here, there in rounds:
            pipe, steps = project.steps(opened)
            with closing(pipe):
                ancestor = owned(project.local)
                edit(project.local, here)
                edit(project.remote, there)
                sides = owned(project.local), owned(project.remote)
                arrive = told_of(there, ancestor, sides[1])
                send = told_of(here, ancestor, sides[0])
                done = steps.receive(told_there(project, arrive)) if arrive else None
                report = steps.send(send) if send else None
                small.append((report is not None, done is not None))
                assert_no_edit_is_lost(
                    (ancestor, *sides), (owned(project.local), owned(project.remote))
                )
            whole = project.sync_opened(opened)
            if (not send or report) and (not arrive or done):
                assert is_nothing(whole)
                assert owned(project.local) == owned(project.remote)
            if whole.conflicts:
                return
            project.sync_opened(opened)

    check()
    assert sum(sent for sent, _ in small) >= 10
    assert sum(received for _, received in small) >= 10


def told_there(project: PipedProject, paths: set[str]) -> bytes:
    """What the agent tells of these changes."""
    workdir = WorkDir(str(project.remote))
    with workdir.ledger.locked(WAIT_S):
        return few_changes.tell(workdir, paths, project.max_bytes)


def is_nothing(report: SyncReport) -> bool:
    return not (report.actions or report.conflicts or report.problems)


@pytest.fixture
def pushed(project: PipedProject) -> Iterator[PipedProject]:
    """One in which a small step was made, and nobody had the time to write that into the books."""
    (project.local / "train.py").write_text("1")
    opened = project.open()
    project.sync_opened(opened)
    pipe, steps = project.steps(opened)
    with closing(pipe):
        (project.local / "train.py").write_text("2")
        assert steps.send({"train.py"}) is not None
        assert (project.remote / "train.py").read_text() == "2"
        yield project


def test_an_edit_of_what_a_small_step_brought_is_no_conflict(pushed: PipedProject) -> None:
    assert (pushed.remote / ".colabdev" / "journal").exists()
    (pushed.remote / "train.py").write_text("3")
    assert pushed.sync().conflicts == ()
    assert (pushed.local / "train.py").read_text() == "3"


def test_a_small_step_replaces_nothing_that_was_edited_there(pushed: PipedProject) -> None:
    opened = pushed.open()
    pushed.sync_opened(opened)
    pipe, steps = pushed.steps(opened)
    with closing(pipe):
        (pushed.local / "train.py").write_text("mine")
        (pushed.remote / "train.py").write_text("theirs")
        assert steps.send({"train.py"}) is None
        assert (pushed.remote / "train.py").read_text() == "theirs"
        assert steps.receive(told_there(pushed, {"train.py"})) is None
        assert (pushed.local / "train.py").read_text() == "mine"


def test_a_small_step_goes_by_what_both_sides_had(pushed: PipedProject) -> None:
    """That a file looks as it is believed to look is not enough: nobody may have synced it."""
    (pushed.remote / "new").write_text("theirs")
    workdir = WorkDir(str(pushed.remote))
    change = Change(changes.DELETE, "new", "f-" + hashlib.sha256(b"theirs").hexdigest())
    with workdir.ledger.locked(WAIT_S), pytest.raises(few_changes.Doubt):
        few_changes.take(workdir, changes.pack_body([change], None))
    assert (pushed.remote / "new").exists()


def test_what_empties_a_folder_is_left_to_a_whole_sync(pushed: PipedProject) -> None:
    for name in ("d/a", "d/b/c"):
        edit(pushed.local, [("write", name, b"1")])
    opened = pushed.open()
    pushed.sync_opened(opened)
    (pushed.local / "d" / "b" / "c").unlink()
    assert opened.tree.rescan({"d/b/c"}, ()) is None
    (pushed.local / "d" / "b").rmdir()
    assert opened.tree.rescan({"d/b/c"}, ()) == {"d/b/c": None}
    assert opened.tree.rescan({"d/b/c"}, {"d/b"}) is None


def test_a_small_step_deletes_no_half_of_a_project(pushed: PipedProject) -> None:
    for number in range(6):
        (pushed.local / f"m{number}").write_text(str(number))
    opened = pushed.open()
    pushed.sync_opened(opened)
    pipe, steps = pushed.steps(opened)
    with closing(pipe):
        (pushed.local / "m0").unlink()
        assert steps.send({"m0"}) is not None
        assert not (pushed.remote / "m0").exists()
        for number in range(1, 6):
            (pushed.local / f"m{number}").unlink()
        assert steps.send({f"m{number}" for number in range(1, 6)}) is None
        for number in range(1, 6):
            (pushed.remote / f"m{number}").unlink()
        away = {f"m{number}" for number in range(1, 6)}
        assert steps.receive(told_there(pushed, away)) is None


def test_a_rename_is_a_copy_there(pushed: PipedProject) -> None:
    opened = pushed.open()
    (pushed.local / "large").write_bytes(bytes(range(256)) * 4000)
    (pushed.local / "other").write_text("other")
    pushed.sync_opened(opened)
    pipe, steps = pushed.steps(opened)
    with closing(pipe):
        (pushed.local / "large").rename(pushed.local / "larger")
        before = pipe.wire_bytes
        report = steps.send({"large", "larger"})
        assert report is not None
        assert [action.op for action in report.actions] == ["copy", "delete"]
        assert pipe.wire_bytes - before < 2000
        assert (pushed.remote / "larger").stat().st_size == 256 * 4000
