"""A project's tree: scanned with yesterday's hashes, and honest about what it could not see."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from colabdev.adapters.ignore_files import compile_rules
from colabdev.adapters.project_rules import RuleSettings
from colabdev.adapters.project_tree import ProjectTree, TreeSettings
from colabdev.agent.changes import SEND, Change
from colabdev.models import Absence

OLD_NS = 1_600_000_000_123_456_789


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    return root


def tree_of(root: Path, *exclude: str) -> ProjectTree:
    index_dir = root.parent / "indexes"
    settings = TreeSettings(index_dir, 10**9, compile_rules, RuleSettings(exclude))
    return ProjectTree(root, settings)


def test_hashes_are_kept_for_the_next_scan(root: Path) -> None:
    for name in "abc":
        (root / name).write_text(name)
    time.sleep(0.08)
    first = tree_of(root).scan()
    (index,) = (root.parent / "indexes").glob("*.stamps")
    kept_ns = index.stat().st_mtime_ns
    assert tree_of(root).scan() == first
    assert index.stat().st_mtime_ns == kept_ns, "nothing changed, and nothing was written"
    (root / "a").unlink()
    tree_of(root).scan()
    assert index.stat().st_mtime_ns != kept_ns


def test_index_that_cannot_be_written_is_no_failure(root: Path) -> None:
    (root.parent / "indexes").write_text("a file stands here")
    (root / "a").write_text("1")
    assert [entry.path for entry in tree_of(root).scan().entries] == ["a"]


def test_absences_are_told_apart(root: Path) -> None:
    for name in ("here", "excluded", "now_a_folder/x", "real/x"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("1")
    os.mkfifo(root / "fifo")
    (root / "link").symlink_to("real")
    tree = tree_of(root, "excluded")
    scan = tree.scan()
    assert [problem[0] for problem in scan.problems] == ["fifo"]
    asked = ["gone", "gone/deep", "excluded", "now_a_folder", "link/x", "fifo", "fifo/below"]
    assert tree.absences(asked) == {
        "gone": Absence.GONE,
        "gone/deep": Absence.GONE,
        "excluded": Absence.IGNORED,
        "now_a_folder": Absence.GONE,
        "link/x": Absence.GONE,
        "fifo": Absence.UNKNOWN,
        "fifo/below": Absence.UNKNOWN,
    }


def test_content_is_read_in_pieces(root: Path) -> None:
    content = os.urandom(1_000_000)
    (root / "a").write_bytes(content)
    tree = tree_of(root)
    (entry,) = tree.scan().entries
    pieces = list(tree.read(Change(SEND, "a", "", entry)))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= 256 * 1024
