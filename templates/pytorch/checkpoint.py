"""Checkpoints that can be trusted: whole or not there at all, never changed, proved by their hashes.

A checkpoint is a directory such as `step-000135/`: the state of the training in `state.pt`, texts
beside it, and `MANIFEST.json`, which tells the size and the hashes of every file. This file needs
nothing but PyTorch, so that it can be copied into any project:

    saved = checkpoint.resume("runs/mine/checkpoints")         # the newest that verifies, or None
    with checkpoint.Requests() as asked, checkpoint.Saver("runs/mine/checkpoints") as saver:
        for step in range(saved["step"] if saved else 0, 1000):
            ...
            saver.save(step, {"step": step, "model": model.state_dict()})      # goes on at once
            if asked.stop:                                     # by SIGTERM or Ctrl-C
                break
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import re
import shutil
import signal
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, Self

import torch

STATE = "state.pt"
MANIFEST = "MANIFEST.json"


class CheckpointError(Exception):
    """A checkpoint cannot be written or used; the message is a sentence for the user."""


# --- Writing ---------------------------------------------------------------------------------------


def save(
    directory: Path,
    step: int,
    state: dict[str, Any],
    *,
    texts: Mapping[str, str] | None = None,
    about: Mapping[str, Any] | None = None,
    keep: int = 3,
    best: int | None = None,
) -> Path:
    """Write the checkpoint of `step`, then delete all but the newest `keep` and that of step `best`.

    `texts` are small files by name, `about` is what the manifest is to say. Whenever the program or
    the machine dies, the checkpoints from before are untouched and no half of one is to be seen. One
    of this step that is there already and verifies stays as it is.
    """
    final, staging = directory / f"step-{step:06d}", directory / ".saving"
    try:
        if final.exists():
            if damage(final) is None:
                return final
            shutil.rmtree(final)
        shutil.rmtree(staging, ignore_errors=True)  # of a run that was killed
        staging.mkdir(parents=True)
        torch.save(state, staging / STATE)
        for name, text in (texts or {}).items():
            (staging / name).write_text(text, encoding="utf-8")
        manifest = {"step": step, "keep": step == best, "torch": torch.__version__}
        manifest |= {"cuda": torch.version.cuda, **(about or {})}
        manifest["files"] = [describe(path) for path in sorted(staging.iterdir())]
        (staging / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        # The name comes last, when everything that it stands for is on the disk.
        for path in [*staging.iterdir(), staging]:
            flush(path)
        os.rename(staging, final)
        flush(directory)
    except (OSError, RuntimeError) as exc:  # torch reports a full disk as a RuntimeError.
        raise CheckpointError(f"cannot save {final}: {exc}") from exc
    prune(directory, keep, best)
    return final


def describe(path: Path) -> dict[str, Any]:
    """What the manifest says of a file. The md5 proves nothing here, but Google Drive tells it."""
    hashes = {algorithm: digest(path, algorithm) for algorithm in ("sha256", "md5")}
    return {"path": path.name, "size": path.stat().st_size, **hashes}


def digest(path: Path, algorithm: str) -> str:
    hashed = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while piece := file.read(1 << 24):  # large, because after each a thread waits for its turn
            hashed.update(piece)
    return hashed.hexdigest()


def flush(path: Path) -> None:
    """Make a file, or the names in a directory, survive a power cut. Windows can do it for files."""
    if path.is_file() or os.name == "posix":
        descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def prune(directory: Path, keep: int, best: int | None) -> None:
    """Delete what is older than the newest `keep`, at least two; what has no manifest does not count."""
    counted = [step for step, path in checkpoints(directory) if (path / MANIFEST).is_file()]
    oldest_kept = counted[-max(keep, 2) :][0]
    for step, path in checkpoints(directory):
        if step < oldest_kept and step != best:
            # What cannot be deleted now is tried again at the next save.
            shutil.rmtree(path, ignore_errors=True)


# --- Reading ---------------------------------------------------------------------------------------


def resume(directory: str | Path) -> dict[str, Any] | None:
    """The state in the newest checkpoint whose hashes verify; None where there was never one."""
    path = latest(Path(directory))
    return None if path is None else load(path, verified=True)


def load(path: Path, *, verified: bool = False) -> dict[str, Any]:
    """The state in the checkpoint at `path`, on the CPU, after its hashes were verified."""
    if path.is_file():
        raise CheckpointError(f"cannot use {path}: a checkpoint is a directory with a {MANIFEST}")
    if not path.is_dir():
        raise CheckpointError(f"cannot use {path}: there is no such checkpoint")
    if not verified and (problem := damage(path)):
        raise CheckpointError(f"cannot use {path}: {problem}")
    try:
        # weights_only: tensors and plain values, never code that somebody put into the file.
        return torch.load(path / STATE, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as exc:
        raise CheckpointError(f"cannot use {path}: {STATE} is no file of torch.save") from exc


def meant(path: str) -> Path:
    """The checkpoint that somebody means by the path of its directory, or of a file in it."""
    folder = Path(path).parent
    return folder if Path(path).is_file() and (folder / MANIFEST).is_file() else Path(path)


def latest(directory: Path) -> Path | None:
    """The newest checkpoint whose hashes verify; None where there was never one."""
    found = checkpoints(directory)
    for _, path in reversed(found):
        problem = damage(path)
        if problem is None:
            return path
        print(f"skipped {path}: {problem}", file=sys.stderr)
    if found:  # To start over in silence would look like success.
        raise CheckpointError(f"cannot resume: every checkpoint in {directory} is damaged")
    return None


def checkpoints(directory: Path) -> list[tuple[int, Path]]:
    """Step and path of what looks like a checkpoint in `directory`, oldest first."""
    named = [(re.fullmatch(r"step-(\d{6,})", path.name), path) for path in directory.glob("step-*")]
    return sorted((int(match[1]), path) for match, path in named if match)


def damage(path: Path) -> str | None:
    """What is wrong with the checkpoint at `path`, in words; None when its hashes verify."""
    name = MANIFEST
    try:
        files = {entry["path"]: entry for entry in json.loads((path / name).read_bytes())["files"]}
        if STATE not in files:
            return f"its {MANIFEST} does not name {STATE}"
        for name, entry in files.items():
            # A name that leads elsewhere is damage, too.
            same = (path / name).parent == path and (path / name).stat().st_size == entry["size"]
            if not same or digest(path / name, "sha256") != entry["sha256"]:
                return f"{name} is not what {MANIFEST} says"
    except FileNotFoundError:
        return f"it has no {name}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"its {name} cannot be read"
    return None


# --- Writing beside the training ---------------------------------------------------------------------


class Saver:
    """Saves while the training goes on, which waits only until its state is copied to memory.

    From there a thread takes it to the disk, which leaves the training its time: hashing, writing and
    flushing need no Python. What goes wrong there is raised by the next call of any method. The memory
    is kept for the next copy: to get it from the system anew takes longer than to fill it.
    """

    def __init__(self, directory: str | Path, **options: Any) -> None:
        """`options` are those of `save`, for every checkpoint."""
        self.directory, self.options = Path(directory), options
        self.thread = ThreadPoolExecutor(1, "checkpoint")
        self.writing: Future[Path] | None = None
        self.copy: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self.thread:
            try:
                self.wait()  # Whatever ends the training, what was copied is still written.
            except CheckpointError:
                if kind is None:  # or the training's own error is the one to tell
                    raise

    def save(self, step: int, state: dict[str, Any], *, wait: bool = True, **options: Any) -> bool:
        """Save as `save` of this module does, with the same options.

        While the checkpoint before is still being written this waits for that, or without `wait`
        leaves out this one and returns False.
        """
        if not self.check() and not wait:
            return False
        self.wait()
        told = {**self.options, **options}
        self.copy = copied(state, self.copy)
        self.writing = self.thread.submit(save, self.directory, step, self.copy, **told)
        return True

    def check(self) -> bool:
        """Whether everything is on the disk; cheap enough for every step."""
        if self.writing is not None and self.writing.done():
            self.wait()
        return self.writing is None

    def wait(self) -> None:
        """Return when everything is on the disk."""
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()


def copied(value: Any, before: Any = None) -> Any:
    """The same value with its tensors copied to memory that no step changes: that of the copy `before`
    where it fits."""
    if isinstance(value, torch.Tensor):
        looks = (value.shape, value.dtype)
        if not isinstance(before, torch.Tensor) or (before.shape, before.dtype) != looks:
            # Pinned, because a GPU copies several times as fast to memory that cannot be moved.
            before = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
        return before.copy_(value.detach())
    if isinstance(value, dict):
        old = before if isinstance(before, dict) else {}
        return {key: copied(child, old.get(key)) for key, child in value.items()}
    if type(value) in (list, tuple):
        old = before if isinstance(before, (list, tuple)) else ()
        return type(value)(map(copied, value, [*old, *[None] * len(value)]))
    return value


# --- What the loop needs beside its weights ----------------------------------------------------------


class Requests:
    """What signals ask of the loop: SIGTERM and Ctrl-C to save and end, SIGUSR1 to save and go on."""

    stop = 0  # by this signal
    save = False

    def __enter__(self) -> Self:
        names = ("SIGINT", "SIGTERM", "SIGUSR1")  # Windows has only the first two.
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        self.before = {number: signal.signal(number, self.receive) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def receive(self, number: int, _frame: FrameType | None) -> None:
        if number in (signal.SIGINT, signal.SIGTERM):
            self.stop = number
            signal.signal(number, signal.SIG_DFL)  # A second Ctrl-C ends the run at once.
        else:
            self.save = True


def random_state(device: torch.device) -> dict[str, Any]:
    """Where all random numbers of this process have got to, as `weights_only` can load it."""
    state = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if numpy := sys.modules.get("numpy"):
        name, keys, *rest = numpy.random.get_state()
        state["numpy"] = [name, keys.tolist(), *rest]
    if device.type != "cpu":  # Dropout draws where the model is.
        state[device.type] = torch.get_device_module(device).get_rng_state()
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Go on with the random numbers of the run that `state` is from."""
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if "numpy" in state and (numpy := sys.modules.get("numpy")):
        numpy.random.set_state(tuple(state["numpy"]))
    if device.type in state:
        torch.get_device_module(device).set_rng_state(state[device.type])


def code_hash(folder: Path) -> str:
    """What names the code that made a checkpoint: the Python files there and one folder down."""
    names = hashlib.sha256()
    for path in sorted([*folder.glob("*.py"), *folder.glob("*/*.py")]):
        names.update(f"{digest(path, 'sha256')} {path.relative_to(folder).as_posix()}\n".encode())
    return names.hexdigest()
