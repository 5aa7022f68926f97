"""Copies of checkpoints on this computer: whole or not there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from colabdev.adapters.checkpoint_copies import FileCheckpointCopies
from colabdev.agent.manifest import FileEntry, Manifest, render
from colabdev.errors import ProtocolError, StateNotWritable, UsageError
from colabdev.ports import BrokenCopy

JOB = "train-261120-abcd"
FILES = {"state.pt": b"1" * 5000, "deep/below/config.json": b"{}", "empty": b""}


@pytest.fixture
def copies(tmp_path: Path) -> FileCheckpointCopies:
    return FileCheckpointCopies(tmp_path / "state")


def manifest_of(files: dict[str, bytes]) -> bytes:
    entries = tuple(
        FileEntry(path, len(data), hashlib.sha256(data).hexdigest(), "")
        for path, data in files.items()
    )
    return render(Manifest(entries, step=7, job=JOB, name="1-7"))


def bring(copies: FileCheckpointCopies, files: dict[str, bytes] = FILES) -> Path:
    with copies.coming(JOB):
        coming = copies.begin(JOB, "1-7", manifest_of(FILES))
        for path, data in files.items():
            coming.append(path, coming.size_of(path), data[coming.size_of(path) :])
        return coming.place()


def test_copy_appears_when_it_is_whole(copies: FileCheckpointCopies, tmp_path: Path) -> None:
    with copies.coming(JOB):
        coming = copies.begin(JOB, "1-7", manifest_of(FILES))
        coming.append("state.pt", 0, b"1" * 2000)
    assert (copies.jobs(), copies.names(JOB)) == ([], [])
    with copies.coming(JOB):
        # Gone on with after a cut.
        assert copies.begin(JOB, "1-7", manifest_of(FILES)).size_of("state.pt") == 2000
    path = bring(copies)
    assert {name: (path / name).read_bytes() for name in FILES} == FILES
    assert (copies.jobs(), copies.names(JOB)) == ([JOB], ["1-7"])
    told = copies.load(JOB, "1-7")
    assert told is not None
    assert (told.step, copies.damage(JOB, "1-7")) == (7, None)
    copies.export(JOB, "1-7", tmp_path / "out")
    assert (tmp_path / "out" / "deep" / "below" / "config.json").read_bytes() == b"{}"
    with pytest.raises(UsageError):
        copies.export(JOB, "1-7", tmp_path / "out")
    (path / "state.pt").write_bytes(b"0" + b"1" * 4999)
    assert copies.damage(JOB, "1-7") == "state.pt has not its hash"
    copies.delete(JOB, "1-7")
    copies.delete(JOB, "1-7")
    assert copies.names(JOB) == []


def test_what_is_not_as_its_manifest_says_does_not_stay(copies: FileCheckpointCopies) -> None:
    for files in ({**FILES, "state.pt": b"0" * 5000}, {**FILES, "state.pt": b"1"}):
        with pytest.raises(BrokenCopy):
            bring(copies, files)
        assert copies.names(JOB) == []
    with copies.coming(JOB):
        coming = copies.begin(JOB, "1-7", manifest_of(FILES))
        with pytest.raises(ProtocolError):
            coming.append("state.pt", 10, b"behind a gap")
        # Another manifest of that name: nothing of the old one is taken for it.
        coming.append("empty", 0, b"x")
        other = manifest_of({"empty": b"x"})
        assert copies.begin(JOB, "1-7", other).size_of("empty") == 0


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"files": []}', b'{"files": [{"path": "../x"}]}']
)
def test_manifest_without_sense_is_refused(copies: FileCheckpointCopies, content: bytes) -> None:
    with copies.coming(JOB), pytest.raises(ProtocolError):
        copies.begin(JOB, "1-7", content)


def test_disk_is_never_filled(tmp_path: Path) -> None:
    copies = FileCheckpointCopies(tmp_path / "state", room_bytes=2**62)
    with copies.coming(JOB), pytest.raises(StateNotWritable, match="no room"):
        copies.begin(JOB, "1-7", manifest_of(FILES))
