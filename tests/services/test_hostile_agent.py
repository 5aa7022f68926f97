"""A runtime that answers with anything: nothing is written outside the project, or into `.git`."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from colabdev.agent import changes, rules
from colabdev.agent.changes import Change
from colabdev.agent.tree import Entry
from colabdev.core.portability import unportable
from colabdev.errors import ProtocolError
from tests.support.piped import Answer, Pipe, PipedProject
from tests.support.syncing import look

DIGEST = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of b"hello"


def row(path: str, **other: Any) -> list[Any]:
    entry = {"path": path, "kind": "file", "executable": False, "size": 5, "mtime_ns": 1}
    return list({**entry, "digest": DIGEST, "target": "", **other}.values())


@dataclass
class LyingPipe(Pipe):
    """Says that these entries are new there, and sends these frames for them."""

    rows: tuple[list[Any], ...] = ()
    frames: tuple[changes.Frame, ...] = ()

    def answer(self, kind: str) -> Answer:
        super().answer(kind)
        lines = [
            ["files", [[entry[0], "", f"{str(entry[1])[:1]}-{entry[5]}"] for entry in self.rows]],
            ["entries", list(self.rows)],
        ]
        told = "\n".join(json.dumps(line) for line in lines) + "\n"
        answer = {"tree": "x", "ancestor": "x", "same": False, "changed_only": False}
        return answer, zlib.compress(told.encode())

    def stream(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> Iterator[Answer]:
        yield from self.frames

    def upload(self, kind: str, arguments: Mapping[str, object], frames: object) -> Answer:
        return {"failures": [], "tree": "x", "ancestor": "x"}, b""


@dataclass
class LyingProject(PipedProject):
    rows: tuple[list[Any], ...] = ()
    frames: tuple[changes.Frame, ...] = ()

    def agent(self, name: str = "") -> Pipe:
        return LyingPipe(rows=self.rows, frames=self.frames)


@pytest.fixture
def project(tmp_path: Path) -> LyingProject:
    made = LyingProject(tmp_path / "project")
    (made.local / ".git").mkdir()
    (made.local / "mine").write_text("mine")
    return made


@pytest.mark.parametrize(
    "entry",
    [
        *(row("../outside"), row("/etc/cron.d/x"), row("a/../../x"), row("a//b"), row("")),
        *(row(".git/hooks/pre-commit"), row("sub/.GIT/config"), row(".colabdev/x"), row("a\0b")),
        *(row("l", kind="link", target="/etc"), row("l", kind="link", target="../../x")),
        *(row("x", kind="device"), row("x", size=-1), row("x", size="5"), [1], row("x")[:3]),
    ],
    ids=str,
)
def test_hostile_entry_is_refused(project: LyingProject, entry: list[Any]) -> None:
    before = look(project.root / "here")
    project.rows = (entry if len(entry) == 7 else [*entry, *[None] * 7][:7],)
    try:
        report = project.sync()
    except ProtocolError:
        pass
    else:
        assert report.problems
    assert look(project.root / "here") == before


def frames(*steps: Change, content: bytes = b"hello") -> tuple[changes.Frame, ...]:
    return tuple(changes.pack(steps, lambda change: iter([content])))


NEW = Entry("new", "file", False, 5, 1, DIGEST)


@pytest.mark.parametrize(
    "sent",
    [
        frames(),
        frames(Change("send", "other", "", NEW._replace(path="other"))),
        frames(*[Change("send", "new", "", NEW)] * 2),
        (({"rows": 1, "size": 10**9, "z": False}, b"x"),),
        (({"rows": 2, "size": 2, "z": False}, b"{}"), ({"end": True}, b"")),
    ],
)
def test_other_frames_than_were_asked_for_write_nothing_else(
    project: LyingProject, sent: tuple[changes.Frame, ...]
) -> None:
    project.rows, project.frames = (row("new"),), sent
    with pytest.raises(ProtocolError):
        project.sync()
    assert set(look(project.local)) <= {"mine", "new"}
    assert (project.local / "mine").read_text() == "mine"


def test_other_content_than_was_announced_is_not_taken(project: LyingProject) -> None:
    project.rows = (row("new"),)
    project.frames = frames(Change("send", "new", "", NEW), content=b"HELLO")
    assert [path for path, _ in project.sync().problems] == ["new"]
    assert set(look(project.local)) == {"mine"}


def test_file_behind_a_link_here_is_not_written(project: LyingProject) -> None:
    outside = project.root / "outside"
    outside.mkdir()
    (project.local / "d").symlink_to(outside)
    project.rows = (row("d/new"),)
    project.frames = frames(Change("send", "d/new", "", NEW._replace(path="d/new")))
    report = project.sync()
    assert list(outside.iterdir()) == []
    assert [path for path, _ in report.problems] == ["d"]


@pytest.mark.parametrize(
    ("platform", "incoming", "refused"),
    [
        ("linux", ["A", "a", "con", "x:y"], []),
        ("darwin", ["README", "x", "new", "NEW"], ["README", "NEW"]),
        ("darwin", ["cafe\u0301", "caf\u00e9"], ["caf\u00e9"]),
        ("win32", ["con", "aux.txt", "d/NUL", "x:y", "a.", "b ", "ok", "constant"], None),
    ],
)
def test_names_that_cannot_stand_here_are_reported(
    platform: str, incoming: list[str], refused: list[str] | None
) -> None:
    expected = refused if refused is not None else incoming[:6]
    assert list(unportable(incoming, ["readme", "x"], platform)) == expected


def test_rules_travel_only_when_they_are_not_known(tmp_path: Path) -> None:
    project = PipedProject(tmp_path / "project")
    (project.local / "a").write_text("1")
    project.sync()
    project.sync()
    assert project.pipes[-1].trips == 1
    (project.local / ".gitignore").write_text("*.log\n")
    project.sync()
    project.sync()
    assert project.pipes[-1].trips == 1
    kept = (project.remote / ".colabdev" / "rules.json").read_text()
    assert rules.from_document(kept).sets
