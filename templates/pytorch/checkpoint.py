"""Checkpoints that can be trusted: whole or not there at all, never changed, proved by their hashes.

A checkpoint is a directory such as `step-000135/`, with the state of the training in `state.pt` and
a `MANIFEST.json` that tells the size and the hashes of every file.
"""

import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

STATE = "state.pt"
MANIFEST = "MANIFEST.json"


class CheckpointError(Exception):
    """A checkpoint cannot be written or used; the message is a sentence for the user."""


def save(directory: Path, step: int, state: dict[str, Any], device: str, *, keep: int = 3) -> Path:
    """Write `state` as the checkpoint of `step`, then delete all but the newest `keep`.

    `device` is the name of what the model was trained on, for the manifest. Whenever the program
    or the machine dies, the checkpoints from before are untouched and no half of one is to be seen.
    """
    final = directory / f"step-{step:06d}"
    # One run writes into a directory, so what lies here was left by one that was killed.
    staging = directory / ".saving"
    try:
        if final.exists():
            if damage(final) is None:
                raise CheckpointError(f"cannot save {final}: it is there already")
            shutil.rmtree(final)
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir(parents=True)
        with open(staging / STATE, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        # The manifest comes after everything that it speaks of, and the name after the manifest.
        with open(staging / MANIFEST, "w", encoding="ascii") as file:
            json.dump(describe(staging, step, device), file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        flush_directory(staging)
        os.rename(staging, final)
        flush_directory(directory)
    except (OSError, RuntimeError) as exc:  # torch reports a full disk as a RuntimeError.
        raise CheckpointError(f"cannot save {final}: {exc}") from exc
    prune(directory, keep)
    return final


def load(path: Path, map_location: str | torch.device) -> dict[str, Any]:
    """The state in the checkpoint at `path`, after its hashes were verified."""
    if not path.is_dir():
        raise CheckpointError(f"cannot resume {path}: there is no such checkpoint")
    if problem := damage(path):
        raise CheckpointError(f"cannot resume {path}: {problem}")
    try:
        # weights_only: tensors and plain values, never code that somebody put into the file.
        return torch.load(path / STATE, map_location=map_location, weights_only=True)
    except (OSError, EOFError, RuntimeError, UnpicklingError) as exc:
        raise CheckpointError(f"cannot resume {path}: {STATE} is no file of torch.save") from exc


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


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Where the random numbers of this run have got to; dropout draws them where the model is."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state()
    return states


def restore_random_state(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Go on with the random numbers of the run that `states` is from."""
    torch.set_rng_state(states["cpu"])
    if device.type != "cpu" and device.type in states:
        torch.get_device_module(device).set_rng_state(states[device.type])


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


def describe(directory: Path, step: int, device: str) -> dict[str, Any]:
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
    return {"step": step, "torch": torch.__version__, "device": device, "files": files}


def digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def prune(directory: Path, keep: int) -> None:
    """Delete what is older than the newest `keep` whose hashes verify."""
    verified = 0
    for _, path in reversed(checkpoints(directory)):
        # Two at least: the newest may be damaged tomorrow.
        if verified >= max(keep, 2):
            # What cannot be deleted now is tried again at the next save.
            shutil.rmtree(path, ignore_errors=True)
        elif damage(path) is None:
            verified += 1


def flush_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut. Windows has no such call."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
