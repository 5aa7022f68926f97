"""A checkpoint is whole and proved, or it is none."""

import hashlib
import json
import os
import pickle
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import checkpoint

STATE = {"step": 7, "weights": torch.arange(6.0).view(2, 3), "nothing": torch.empty(0)}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return checkpoint.save(tmp_path / "all", 7, STATE, texts={"note": "n"}, about={"device": "cpu"})


def test_manifest_tells_size_and_hashes_of_every_file(saved: Path) -> None:
    manifest = json.loads((saved / "MANIFEST.json").read_text(encoding="ascii"))
    assert (manifest["step"], manifest["device"], manifest["keep"]) == (7, "cpu", False)
    assert {path.name for path in saved.iterdir()} == {"MANIFEST.json", "note", "state.pt"}
    for entry in manifest["files"]:
        content = (saved / entry["path"]).read_bytes()
        assert entry == {
            "path": entry["path"],
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        }


def flip_a_bit(path: Path) -> None:
    content = bytearray((path / "state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "state.pt").write_bytes(content)


def name_a_file_elsewhere(path: Path) -> None:
    manifest = (path / "MANIFEST.json").read_text()
    (path / "MANIFEST.json").write_text(manifest.replace("note", f"../{path.name}/note"))


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (flip_a_bit, "state.pt is not what MANIFEST.json says"),
    (lambda path: os.truncate(path / "state.pt", 99), "state.pt is not what MANIFEST.json says"),
    (lambda path: (path / "state.pt").unlink(), "it has no state.pt"),
    (lambda path: (path / "note").write_text("m"), "note is not what MANIFEST.json says"),
    (lambda path: (path / "MANIFEST.json").unlink(), "it has no MANIFEST.json"),
    (lambda path: os.truncate(path / "MANIFEST.json", 20), "its MANIFEST.json cannot be read"),
    (
        lambda path: (path / "MANIFEST.json").write_text('{"files": []}'),
        "its MANIFEST.json does not name state.pt",
    ),
    (name_a_file_elsewhere, "../step-000007/note is not what MANIFEST.json says"),
]


@pytest.mark.parametrize(("spoil", "said"), DAMAGES)
def test_every_damage_is_noticed_and_named(
    saved: Path, spoil: Callable[[Path], object], said: str
) -> None:
    assert checkpoint.damage(saved) is None
    spoil(saved)
    assert checkpoint.damage(saved) == said


def test_never_starts_over_when_everything_is_damaged(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_a_bit(saved)
    with pytest.raises(checkpoint.CheckpointError, match=r"every checkpoint in .* is damaged"):
        checkpoint.resume(saved.parent)
    assert f"skipped {saved}: " in capsys.readouterr().err


def test_pruning_counts_only_what_verifies_and_leaves_two(tmp_path: Path) -> None:
    def save(step: int, **options: object) -> list[int]:
        checkpoint.save(tmp_path, step, {"step": step}, **options)
        return [step for step, _ in checkpoint.checkpoints(tmp_path)]

    assert [save(step, keep=1) for step in range(1, 5)] == [[1], [1, 2], [2, 3], [3, 4]]
    (tmp_path / "step-000004" / "MANIFEST.json").unlink()
    assert save(5, keep=2) == [3, 4, 5]
    assert save(6, keep=2, best=3) == [3, 5, 6]
    assert save(7, keep=2, best=7) == [6, 7]
    assert json.loads((tmp_path / "step-000007" / "MANIFEST.json").read_text())["keep"]
    assert save(1_000_000, keep=2) == [7, 1_000_000]


def test_what_is_there_and_whole_is_never_overwritten(saved: Path) -> None:
    before = (saved / "state.pt").read_bytes()
    assert checkpoint.save(saved.parent, 7, {"step": 8}) == saved
    assert (saved / "state.pt").read_bytes() == before
    flip_a_bit(saved)
    checkpoint.save(saved.parent, 7, {"step": 8})
    assert checkpoint.load(saved) == {"step": 8}


def test_code_in_a_checkpoint_is_not_run(saved: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, ("harm",)

    (saved / "state.pt").write_bytes(pickle.dumps(Code(), protocol=2))
    (saved / "MANIFEST.json").unlink()
    files = [checkpoint.describe(saved / "state.pt")]
    (saved / "MANIFEST.json").write_text(json.dumps({"files": files}))
    with pytest.raises(checkpoint.CheckpointError, match=r"state.pt is no file of torch.save"):
        checkpoint.load(saved)
    assert not Path("harm").exists()


def test_saver_writes_what_the_state_was_when_it_was_called(tmp_path: Path) -> None:
    weights = torch.zeros(1000)
    with checkpoint.Saver(tmp_path, about={"attempt": 2}) as saver:
        for step in range(1, 4):
            weights.fill_(step)
            state = {"weights": weights, "empty": torch.empty(0), "more": (1, [step])}
            saver.save(step, state | {"grows": [torch.full((step,), step)] * step})
            weights.fill_(-1)
    for step, path in checkpoint.checkpoints(tmp_path):
        state = checkpoint.load(path)
        assert state["weights"].eq(step).all()
        assert [grown.tolist() for grown in state["grows"]] == [[step] * step] * step
        assert (state["more"], state["empty"].shape) == ((1, [step]), (0,))
        assert json.loads((path / "MANIFEST.json").read_text())["attempt"] == 2


def test_training_does_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not on the disk yet is not waited for, and what comes meanwhile is left out if it may."""
    disk, write = threading.Event(), torch.save

    def save_when_there_is_a_disk(*arguments: object) -> None:
        assert disk.wait(60)
        write(*arguments)

    monkeypatch.setattr(torch, "save", save_when_there_is_a_disk)
    with checkpoint.Saver(tmp_path) as saver:
        assert saver.save(1, {"step": torch.tensor(1)})
        assert not saver.check()
        assert not saver.save(2, {"step": torch.tensor(2)}, wait=False)
        assert checkpoint.checkpoints(tmp_path) == []
        threading.Timer(0.2, disk.set).start()
        assert saver.save(3, {"step": torch.tensor(3)})
    states = [checkpoint.load(path) for _, path in checkpoint.checkpoints(tmp_path)]
    assert states == [{"step": 1}, {"step": 3}]


def test_checkpoint_that_cannot_be_written_is_told_by_the_next_call(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with checkpoint.Saver(tmp_path / "file") as saver:
        saver.save(1, STATE)
        with pytest.raises(checkpoint.CheckpointError, match=r"cannot save .*/file/step-000001: "):
            saver.save(2, STATE)


def test_error_of_the_training_is_not_hidden_by_one_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    saver = checkpoint.Saver(tmp_path / "file")
    saver.save(1, STATE)
    with pytest.raises(ZeroDivisionError), saver:
        raise ZeroDivisionError


def test_signals_are_remembered_and_their_handlers_given_back() -> None:
    numbers = (signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    with checkpoint.Requests() as asked:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert (asked.save, asked.stop) == (True, 0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.stop == signal.SIGTERM
    assert [signal.getsignal(number) for number in numbers] == before
