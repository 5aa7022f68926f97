"""What counts as a whole checkpoint, of the ways in which trainers write them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from colabdev.agent import finding
from colabdev.agent.finding import Finder

SETTLE_S = 3.0


def write(path: Path, content: bytes = b"weights") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_all(top: Path, *names: str) -> None:
    for name in names:
        write(top / name)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "runs" / "a" / "checkpoints").mkdir(parents=True)
    return tmp_path / "runs" / "a" / "checkpoints"


@pytest.fixture
def finder(tmp_path: Path) -> Finder:
    return Finder([f"{tmp_path}/runs/*/checkpoints"], since=0.0)


def settled(finder: Finder) -> list[tuple[str, str]]:
    """Name and kind of what is found whole after it was left alone for a while."""
    finder.look(0.0, SETTLE_S)
    found = finder.look(SETTLE_S, SETTLE_S)
    return sorted((os.path.basename(one.path), one.kind) for one in found)


LAYOUTS: dict[str, tuple[list[str], list[tuple[str, str]]]] = {
    "bare files": (
        ["last.pt", "model_10.pth", "epoch=1-step=20.ckpt", "model.safetensors", "notes.txt"],
        [
            ("epoch=1-step=20.ckpt", "file"),
            ("last.pt", "file"),
            ("model.safetensors", "file"),
            ("model_10.pth", "file"),
        ],
    ),
    "temporary names": ([".saving-1/state.pt", "last.pt.tmp", "tmp_step/state.pt"], []),
    "with a manifest": (["step-000010/MANIFEST.json"], [("step-000010", "manifest")]),
    "Hugging Face": (
        ["checkpoint-5/model.safetensors", "checkpoint-5/trainer_state.json"],
        [("checkpoint-5", "folder")],
    ),
    "Hugging Face, half": (["checkpoint-5/model.safetensors"], []),
    "Hugging Face, cut short": (
        ["checkpoint-5/trainer_state.json", "checkpoint-5/checkpoint-is-incomplete.txt"],
        [],
    ),
    "distributed": (["step-5/__0_0.distcp", "step-5/.metadata"], [("step-5", "folder")]),
    "distributed, half": (["step-5/__0_0.distcp", "step-5/model.pt"], []),
    "Lightning, sharded": (
        ["epoch=0.ckpt/checkpoint/.metadata", "epoch=0.ckpt/meta.pt"],
        [("epoch=0.ckpt", "folder")],
    ),
    "something else": (["samples/1.png"], []),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_whole_checkpoints_are_told_from_half_ones(top: Path, finder: Finder, layout: str) -> None:
    names, found = LAYOUTS[layout]
    write_all(top, *names)
    assert settled(finder) == found


def test_what_has_a_manifest_is_whole_at_once_and_the_rest_when_left_alone(
    top: Path, finder: Finder
) -> None:
    write_all(top, "step-1/MANIFEST.json", "last.pt")
    assert [os.path.basename(one.path) for one in finder.look(0.0, SETTLE_S)] == ["step-1"]
    write(top / "last.pt", b"other weights")
    assert len(finder.look(SETTLE_S, SETTLE_S)) == 1
    (newest, other) = finder.look(2 * SETTLE_S, SETTLE_S)
    finder.done(newest)
    finder.done(other)
    assert finder.look(3 * SETTLE_S, SETTLE_S) == []
    assert not finder.is_pending()
    write(top / "last.pt", b"newer weights")
    assert finder.look(4 * SETTLE_S, SETTLE_S) == []
    assert finder.is_pending()


OPENERS: dict[str, tuple[Callable[[Path], int], bool]] = {
    "for writing": (lambda path: os.open(path, os.O_WRONLY), True),
    "for both": (lambda path: os.open(path, os.O_RDWR), True),
    "for reading": (lambda path: os.open(path, os.O_RDONLY), False),
}


@pytest.mark.parametrize("way", OPENERS)
def test_what_somebody_has_open_for_writing_is_not_whole(
    top: Path, finder: Finder, way: str
) -> None:
    write_all(top, "last.pt", "checkpoint-5/trainer_state.json", "checkpoint-5/model.safetensors")
    opening, is_writing = OPENERS[way]
    handles = [opening(top / name) for name in ("last.pt", "checkpoint-5/model.safetensors")]
    found = [("checkpoint-5", "folder"), ("last.pt", "file")]
    assert settled(finder) == ([] if is_writing else found)
    for handle in handles:
        os.close(handle)
    assert settled(finder) == found


def test_what_was_there_before_the_job_is_not_its(top: Path, tmp_path: Path) -> None:
    write_all(top, "old.pt", "new.pt")
    os.utime(top / "old.pt", (1000.0, 1000.0))
    (top / "link.pt").symlink_to(top / "new.pt")
    finder = Finder([f"{tmp_path}/runs/*/checkpoints"], since=2000.0)
    assert settled(finder) == [("new.pt", "file")]
    assert finding.look_at(str(top / "link.pt")) is None
