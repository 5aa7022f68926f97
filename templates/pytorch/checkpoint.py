"""Checkpoints that can be trusted: whole or not there at all, never changed, proved by their hashes.

A checkpoint is a directory such as `step-000135/`: the state of the training in `state.pt`, texts
beside it, and `MANIFEST.json`, which comes last and tells the size and the hashes of every file. This
file needs nothing but PyTorch, so that it can be copied into any project:

    saved = checkpoint.resume("runs/mine/checkpoints")         # the newest that verifies, or None
    with checkpoint.StopRequest() as stop, checkpoint.Saver("runs/mine/checkpoints") as saver:
        for step in range(saved["step"] if saved else 0, 1000):
            ...
            saver.save(step, {"step": step, "model": model.state_dict()})      # goes on at once
            if stop.signal:                                    # SIGTERM or Ctrl-C
                break
"""

import contextlib
import hashlib
import io
import json
import mmap
import multiprocessing
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

STATE = "state.pt"
MANIFEST = "MANIFEST.json"
ALIGNMENT = 64  # bytes; where a tensor may start in memory


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
    keep_steps: Collection[int] = (),
) -> Path:
    """Write the checkpoint of `step`, then delete all but the newest `keep` and those of `keep_steps`.

    `texts` are small files by name, `about` is what the manifest is to say. Whenever the program or
    the machine dies, the checkpoints from before are untouched and no half of one is to be seen. One
    of this step that is there already and verifies stays as it is.
    """
    final = directory / f"step-{step:06d}"
    staging = directory / f".saving-{os.getpid()}"
    try:
        if final.exists():
            if damage(final) is None:
                return final
            shutil.rmtree(final)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        with open(staging / STATE, "wb") as file:
            torch.save(state, file)
            os.fsync(file.fileno())
        for name, text in (texts or {}).items():
            write_text(staging / name, text)
        # The manifest comes after everything that it speaks of, and the name after the manifest.
        manifest = describe(staging, step, about or {})
        write_text(staging / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        flush_directory(staging)
        os.rename(staging, final)
        flush_directory(directory)
    except (OSError, RuntimeError) as exc:  # torch reports a full disk as a RuntimeError.
        raise CheckpointError(f"cannot save {final}: {exc}") from exc
    prune(directory, keep, keep_steps)
    return final


def describe(directory: Path, step: int, about: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of the files in `directory`."""
    files = [
        {
            "path": path.name,
            "size": path.stat().st_size,
            "sha256": digest(path, "sha256"),
            "md5": digest(path, "md5"),  # Nothing is proved by it here, but Google Drive tells it.
        }
        for path in sorted(directory.iterdir())
        if path.name != MANIFEST
    ]
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda}
    return {"step": step, **versions, **about, "files": files}


def prune(directory: Path, keep: int, keep_steps: Collection[int] = ()) -> None:
    """Delete what is older than the newest `keep` whose hashes verify."""
    verified = 0
    for step, path in reversed(checkpoints(directory)):
        # Two at least: the newest may be damaged tomorrow.
        if verified < max(keep, 2):
            verified += damage(path) is None
        elif step not in keep_steps:
            # What cannot be deleted now is tried again at the next save.
            shutil.rmtree(path, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def flush_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut. Windows has no such call."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# --- Reading ---------------------------------------------------------------------------------------


def resume(
    directory: str | Path, map_location: str | torch.device = "cpu"
) -> dict[str, Any] | None:
    """The state in the newest checkpoint whose hashes verify; None where there was never one."""
    path = latest(Path(directory))
    return None if path is None else load(path, map_location)


def load(path: Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """The state in the checkpoint at `path`, after its hashes were verified."""
    if not path.is_dir():
        raise CheckpointError(f"cannot use {path}: there is no such checkpoint")
    if problem := damage(path):
        raise CheckpointError(f"cannot use {path}: {problem}")
    try:
        # weights_only: tensors and plain values, never code that somebody put into the file.
        return torch.load(path / STATE, map_location=map_location, weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as exc:
        raise CheckpointError(f"cannot use {path}: {STATE} is no file of torch.save") from exc


def latest(directory: Path) -> Path | None:
    """The newest checkpoint whose hashes verify; None where there was never one."""
    found = [path for _, path in checkpoints(directory)]
    for path in reversed(found):
        problem = damage(path)
        if problem is None:
            return path
        print(f"skipped {path}: {problem}", file=sys.stderr)
    if found:
        # To start over in silence would look like success.
        raise CheckpointError(f"cannot resume: every checkpoint in {directory} is damaged")
    return None


def checkpoints(directory: Path) -> list[tuple[int, Path]]:
    """Step and path of what looks like a checkpoint in `directory`, oldest first."""
    found = []
    for path in directory.glob("step-*"):
        if match := re.fullmatch(r"step-([0-9]{6,})", path.name):
            found.append((int(match[1]), path))
    return sorted(found)


def damage(path: Path) -> str | None:
    """What is wrong with the checkpoint at `path`, in words; None when its hashes verify."""
    try:
        entries = json.loads((path / MANIFEST).read_bytes())["files"]
        names = [entry["path"] for entry in entries]
        broken = [entry["path"] for entry in entries if not is_intact(path, entry)]
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"its {MANIFEST} cannot be read"
    if broken:
        return f"{broken[0]} is not what {MANIFEST} says"
    return None if STATE in names else f"its {MANIFEST} does not name {STATE}"


def is_intact(directory: Path, entry: dict[str, Any]) -> bool:
    """Whether a file is there as its manifest entry says. A name that leads elsewhere is not."""
    path = directory / entry["path"]
    try:
        return (
            path.parent == directory
            and path.stat().st_size == entry["size"]
            and digest(path, "sha256") == entry["sha256"]
        )
    except OSError:
        return False


def digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


# --- Writing beside the training ---------------------------------------------------------------------


class Saver:
    """Saves while the training goes on, which waits only until its state is copied.

    On Linux a process of its own writes what was copied, from memory that both share (as much again
    as the state takes); elsewhere `save` writes it before it returns. An error in that process is
    raised by the next call of any method.
    """

    def __init__(
        self, directory: str | Path, *, keep: int = 3, about: Mapping[str, Any] | None = None
    ) -> None:
        self.directory = Path(directory)
        self.options = {"keep": keep, "about": dict(about or {})}
        # One run writes into a directory, so what lies here was left by one that was killed.
        for left in self.directory.glob(".saving-*"):
            shutil.rmtree(left, ignore_errors=True)
        self.writer = Writer() if hasattr(os, "memfd_create") else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.writer is not None:
            # Whatever ends the training, a snapshot that was taken is still written.
            with contextlib.suppress(*([CheckpointError] if kind else [])):
                self.writer.wait()
            self.writer.close()

    def save(self, step: int, state: dict[str, Any], *, wait: bool = True, **more: Any) -> bool:
        """Save as `save` of this module does, with the same named arguments.

        While the checkpoint before is still being written this waits for that, or without `wait`
        leaves out this one and returns False.
        """
        if self.writer is None:
            save(self.directory, step, state, **self.options, **more)
            return True
        if not self.writer.is_idle() and not wait:
            return False
        self.writer.wait()
        self.writer.start(self.directory, step, state, {**self.options, **more})
        return True

    def check(self) -> None:
        """Raise what went wrong in the meantime; cheap enough for every step."""
        if self.writer is not None:
            self.writer.is_idle()

    def wait(self) -> None:
        """Return when everything is on the disk."""
        if self.writer is not None:
            self.writer.wait()


class Place(NamedTuple):
    """Where a tensor stands in the shared memory."""

    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    def view(self, memory: mmap.mmap) -> Tensor:
        count = torch.Size(self.shape).numel()
        flat = torch.frombuffer(memory, dtype=self.dtype, count=count, offset=self.start)
        return flat.view(self.shape)


class Layout(pickle.Pickler):
    """Pickles a state with a Place for each tensor, one behind the other in the memory."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.places: list[tuple[Place, Tensor]] = []
        self.end = 0

    def persistent_id(self, value: object) -> tuple[Any, ...] | None:
        if not isinstance(value, Tensor) or value.numel() == 0:
            return None
        place = Place(self.end, value.dtype, tuple(value.shape))
        self.places.append((place, value))
        self.end += -(-value.nbytes // ALIGNMENT) * ALIGNMENT
        return tuple(place)


class Restored(pickle.Unpickler):
    """Reads what Layout wrote; the tensors are views of the memory."""

    def __init__(self, file: io.BytesIO, memory: mmap.mmap) -> None:
        super().__init__(file)
        self.memory = memory

    def persistent_load(self, place: tuple[Any, ...]) -> Tensor:
        return Place(*place).view(self.memory)


class Writer:
    """The process that writes, and the memory that it reads from."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("checkpoint")
        self.memory: mmap.mmap | None = None
        self.busy = False
        self.connection, theirs = multiprocessing.Pipe()
        # In a session of its own: Ctrl-C in a terminal is for the training, which then saves.
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno()), str(self.descriptor)],
            pass_fds=(theirs.fileno(), self.descriptor),
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()

    def start(self, *job: object) -> None:
        """Copy the arguments of `save`, and let the process call it."""
        layout = Layout(pickled := io.BytesIO())
        layout.dump(job)
        skeleton = pickled.getvalue()
        if self.memory is None or len(self.memory) < layout.end + len(skeleton):
            os.ftruncate(self.descriptor, layout.end + 2 * len(skeleton))
            self.memory = mmap.mmap(self.descriptor, 0)
        for place, tensor in layout.places:
            place.view(self.memory).copy_(tensor.detach())
        self.memory[layout.end : layout.end + len(skeleton)] = skeleton
        self.busy = True
        try:
            self.connection.send((layout.end, len(skeleton)))
        except OSError as exc:
            raise self.ended() from exc

    def is_idle(self) -> bool:
        """Whether the next may be started; raises what the last one failed of."""
        if self.busy and self.connection.poll():
            self.receive()
        return not self.busy

    def wait(self) -> None:
        if self.busy:
            self.receive()

    def receive(self) -> None:
        self.busy = False
        try:
            problem = self.connection.recv()
        except (EOFError, OSError) as exc:
            raise self.ended() from exc
        if problem:
            raise CheckpointError(problem)

    def ended(self) -> CheckpointError:
        status = self.process.wait()
        return CheckpointError(f"cannot save: the process that writes ended with status {status}")

    def close(self) -> None:
        self.connection.close()  # which ends the process
        self.process.wait()
        os.close(self.descriptor)


def write_snapshots(connection: Connection, descriptor: int) -> None:
    """What the process does, until the training closes the connection or dies."""
    while True:
        try:
            start, size = connection.recv()
        except EOFError:
            return
        memory = mmap.mmap(descriptor, 0)
        # Not from a file: the training wrote this into our common memory.
        pickled = io.BytesIO(memory[start : start + size])
        directory, step, state, options = Restored(pickled, memory).load()
        try:
            save(directory, step, state, **options)
            problem = None
        except CheckpointError as exc:
            problem = str(exc)
        with contextlib.suppress(OSError):  # Nobody is there any more; but it is on the disk.
            connection.send(problem)


# --- What the loop needs beside its weights ----------------------------------------------------------


class StopRequest:
    """Remembers SIGTERM and Ctrl-C, so that the loop can finish its step, save and end."""

    signal: int | None = None

    def __enter__(self) -> Self:
        numbers = (signal.SIGINT, signal.SIGTERM)
        self.before = {number: signal.signal(number, self.receive) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def receive(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL)  # A second Ctrl-C ends the run at once.


def random_state(device: torch.device) -> dict[str, Any]:
    """Where all random numbers of this process have got to, as `weights_only` can load it."""
    state = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if numpy := sys.modules.get("numpy"):
        name, keys, *rest = numpy.random.get_state()
        state["numpy"] = [name, keys.tolist(), *rest]
    if device.type != "cpu":
        # Dropout draws where the model is.
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


def code_hash(folder: Path = Path(__file__).parent) -> str:
    """What names the code that made a checkpoint: the Python files here and one folder down."""
    names = hashlib.sha256()
    for path in sorted([*folder.glob("*.py"), *folder.glob("*/*.py")]):
        names.update(f"{digest(path, 'sha256')} {path.relative_to(folder).as_posix()}\n".encode())
    return names.hexdigest()


if __name__ == "__main__":
    write_snapshots(Connection(int(sys.argv[1])), int(sys.argv[2]))
