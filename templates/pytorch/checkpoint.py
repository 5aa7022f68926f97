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

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import random
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, Self

if __name__ != "__main__":  # The process that writes does without, and so it starts at once.
    import torch

STATE = "state.pt"
MANIFEST = "MANIFEST.json"


class CheckpointError(Exception):
    """A checkpoint cannot be written or used; the message is a sentence for the user."""


# --- Writing ---------------------------------------------------------------------------------------


def save(directory: Path, step: int, state: dict[str, Any], **options: Any) -> Path:
    """Write the checkpoint of `step`, with the options of `write`; returns its path."""
    options["about"] = {**versions(), **(options.get("about") or {})}
    return write(directory, step, lambda file: torch.save(state, file), **options)


def write(
    directory: Path,
    step: int,
    fill: Callable[[BinaryIO], object],
    *,
    texts: Mapping[str, str] | None = None,
    about: Mapping[str, Any] | None = None,
    keep: int = 3,
    keep_steps: Collection[int] = (),
) -> Path:
    """Let `fill` write a state, then delete all but the newest `keep` and those of `keep_steps`.

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
        with flushed(staging / STATE) as file:
            fill(file)
        for name, text in (texts or {}).items():
            write_text(staging / name, text)
        # The manifest comes after everything that it speaks of, and the name after the manifest.
        manifest = {"step": step, **(about or {}), "files": describe(staging)}
        write_text(staging / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        flush_directory(staging)
        os.rename(staging, final)
        flush_directory(directory)
    except (OSError, RuntimeError) as exc:  # torch reports a full disk as a RuntimeError.
        raise CheckpointError(f"cannot save {final}: {exc}") from exc
    prune(directory, keep, keep_steps)
    return final


def describe(directory: Path) -> list[dict[str, Any]]:
    """What the manifest says of each file in `directory`."""
    return [
        {
            "path": path.name,
            "size": path.stat().st_size,
            "sha256": digest(path, "sha256"),
            "md5": digest(path, "md5"),  # Nothing is proved by it here, but Google Drive tells it.
        }
        for path in sorted(directory.iterdir())
    ]


def versions() -> dict[str, Any]:
    return {"torch": torch.__version__, "cuda": torch.version.cuda}


def prune(directory: Path, keep: int, keep_steps: Collection[int] = ()) -> None:
    """Delete what is older than the newest `keep` that are whole."""
    whole = 0
    for step, path in reversed(checkpoints(directory)):
        # Two at least: the newest may be damaged tomorrow. To read them all again for their hashes
        # would cost more than to write one.
        if whole < max(keep, 2):
            whole += damage(path, by_hash=False) is None
        elif step not in keep_steps:
            # What cannot be deleted now is tried again at the next save.
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def flushed(path: Path) -> Iterator[BinaryIO]:
    """A new file, which is on the disk at the end and not only in memory."""
    with open(path, "xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    with flushed(path) as file:
        file.write(text.encode())


def flush_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut. Windows has no such call."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# --- Reading ---------------------------------------------------------------------------------------


def resume(directory: str | Path) -> dict[str, Any] | None:
    """The state in the newest checkpoint whose hashes verify; None where there was never one."""
    path = latest(Path(directory))
    return None if path is None else load(path, verified=True)


def load(path: Path, *, verified: bool = False) -> dict[str, Any]:
    """The state in the checkpoint at `path`, after its hashes were verified, if not done already.

    On the CPU; `load_state_dict` takes it to where the model is.
    """
    if not path.is_dir():
        raise CheckpointError(f"cannot use {path}: there is no such checkpoint")
    if not verified and (problem := damage(path)):
        raise CheckpointError(f"cannot use {path}: {problem}")
    try:
        # weights_only: tensors and plain values, never code that somebody put into the file.
        return torch.load(path / STATE, map_location="cpu", weights_only=True)
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


def damage(path: Path, *, by_hash: bool = True) -> str | None:
    """What is wrong with the checkpoint at `path`, in words; None when its hashes verify.

    Not `by_hash` it is None when everything is there in its size.
    """
    try:
        entries = json.loads((path / MANIFEST).read_bytes())["files"]
        for entry in entries:
            if not is_intact(path, entry, by_hash):
                return f"{entry['path']} is not what {MANIFEST} says"
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"its {MANIFEST} cannot be read"
    named = STATE in (entry["path"] for entry in entries)
    return None if named else f"its {MANIFEST} does not name {STATE}"


def is_intact(directory: Path, entry: dict[str, Any], by_hash: bool) -> bool:
    """Whether a file is there as its manifest entry says. A name that leads elsewhere is not."""
    path, size, sha256 = directory / entry["path"], entry["size"], entry["sha256"]
    try:
        if path.parent != directory or path.stat().st_size != size:
            return False
        return not by_hash or digest(path, "sha256") == sha256
    except OSError:
        return False


def digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


# --- Writing beside the training ---------------------------------------------------------------------


class Saver:
    """Saves while the training goes on, which waits only until its state is copied to memory.

    On Linux a process of its own takes it to the disk from there, and finishes that also when the
    training is killed; elsewhere `save` returns when all is written. What goes wrong in that process
    is raised by the next call of any method.
    """

    def __init__(
        self, directory: str | Path, *, keep: int = 3, about: Mapping[str, Any] | None = None
    ) -> None:
        self.directory = Path(directory)
        self.options = {"keep": keep, "about": {**versions(), **(about or {})}}
        self.process: subprocess.Popen[str] | None = None
        self.busy = False
        # One run writes into a directory, so what lies here was left by one that was killed.
        for left in self.directory.glob(".saving-*"):
            shutil.rmtree(left, ignore_errors=True)
        if hasattr(os, "memfd_create"):
            self.memory = open(os.memfd_create("checkpoint"), "wb")  # noqa: SIM115 - see __exit__
            number = self.memory.fileno()
            # In a session of its own: Ctrl-C in a terminal is for the training, which then saves.
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(number)], pass_fds=[number], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
            self.answer = select.poll()
            self.answer.register(self.process.stdout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.process is not None:
            # Whatever ends the training, a snapshot that was taken is still written.
            with self.process, self.memory, contextlib.suppress(*[CheckpointError][: bool(kind)]):
                self.wait()

    def save(self, step: int, state: dict[str, Any], *, wait: bool = True, **options: Any) -> bool:
        """Save as `save` of this module does, with the same options.

        While the checkpoint before is still being written this waits for that, or without `wait`
        leaves out this one and returns False.
        """
        options = {**self.options, **options}
        if self.process is None:
            save(self.directory, step, state, **options)
            return True
        if not self.check() and not wait:
            return False
        self.wait()
        self.memory.seek(0)
        with no_checksums():
            torch.save(state, self.memory)
        self.memory.truncate()
        # An end of the process is told by `wait`, with its status.
        with contextlib.suppress(OSError):
            job = {"directory": str(self.directory), "step": step, **options}
            print(json.dumps(job), file=self.process.stdin, flush=True)
        self.busy = True
        return True

    def check(self) -> bool:
        """Whether everything is on the disk; cheap enough for every step."""
        if self.busy and self.answer.poll(0):
            self.wait()
        return not self.busy

    def wait(self) -> None:
        """Return when everything is on the disk."""
        if self.busy:
            self.busy = False
            answer = self.process.stdout.readline()
            if not answer:
                status = self.process.wait()
                raise CheckpointError(f"cannot save: the process that writes ended with {status}")
            if problem := json.loads(answer):
                raise CheckpointError(problem)


@contextlib.contextmanager
def no_checksums() -> Iterator[None]:
    """Save without those of the zip format, which take half of the time: the manifest is better."""
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        yield
    finally:
        torch.serialization.set_crc32_options(before)


def write_snapshots(memory: int) -> None:
    """What the process beside the training does, until that is done or dead: then stdin ends."""
    snapshot = open(memory, "rb", buffering=0)  # noqa: SIM115 - until the process ends

    def copy(file: BinaryIO) -> None:
        snapshot.seek(0)
        shutil.copyfileobj(snapshot, file, 1 << 20)

    for line in sys.stdin:
        job = json.loads(line)
        problem = None
        try:
            write(Path(job.pop("directory")), job.pop("step"), copy, **job)
        except CheckpointError as exc:
            problem = str(exc)
        with contextlib.suppress(OSError):  # Nobody is there any more; but it is on the disk.
            os.write(1, f"{json.dumps(problem)}\n".encode())


# --- What the loop needs beside its weights ----------------------------------------------------------


class StopRequest:
    """Remembers SIGTERM and Ctrl-C, so that the loop can finish its step, save and end."""

    signal = 0

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
    write_snapshots(int(sys.argv[1]))
