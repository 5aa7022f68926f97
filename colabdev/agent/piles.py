"""Folders of checkpoints: each file may be small enough, and all of them together are hardly ever meant
to go over a home's uplink unasked."""

from __future__ import annotations

from typing import Callable, Dict, Iterable, List

CHECKPOINTS = (".bin", ".ckpt", ".h5", ".keras", ".npz", ".pt", ".pth", ".safetensors")


def find_piles(
    paths: Iterable[str], size_of: Callable[[str], int], max_bytes: int
) -> Dict[str, str]:
    """Why each checkpoint is left out that lies, not alone, in a folder whose checkpoints are larger
    than `max_bytes` together. Only checkpoints are looked at."""
    folders: Dict[str, List[str]] = {}
    for path in paths:
        if path.endswith(CHECKPOINTS):
            folders.setdefault(path.rpartition("/")[0], []).append(path)
    reasons: Dict[str, str] = {}
    for several in folders.values():
        size = sum(map(size_of, several)) if len(several) > 1 else 0
        if size > max_bytes:
            reason = _reason(several, -(-size // 1000000))
            reasons.update((path, reason) for path in several)
    return reasons


def _reason(paths: List[str], megabytes: int) -> str:
    folder, slash, name = paths[0].rpartition("/")
    return (
        "is one of {} checkpoints in one folder, {} MB; colabdev sync --max-size {}M takes them along, "
        "/{}*{} in .colabdevignore leaves them out for good"
    ).format(len(paths), megabytes, megabytes, folder + slash, name[name.rindex(".") :])
