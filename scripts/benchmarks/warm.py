"""A job's environment on a new machine: taken from Drive, beside made by its installer. What the agent
does for that, without the job.

The packages come from the index that pip and uv are configured for, each time anew: nothing of theirs is
cached, as on a new VM. Drive is a folder of this computer, so what a real one takes to hand out the
archive is not in it; the row says how large that is.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import Row, alternate
from colabdev.agent import environments, keeping, warm_start
from colabdev.agent.environments import Wanted

ROUNDS = 5
REQUIREMENTS = ["pandas", "scikit-learn", "matplotlib", "tensorboard"]
"""What a training often asks for beside torch, which the machine has."""


def _by(installer: str) -> Callable[[int], list[Row]]:
    def run(rounds: int) -> list[Row]:
        with tempfile.TemporaryDirectory(prefix="colabdev-bench-") as directory:
            return _rows(Path(directory), installer, rounds)

    return run


GROUPS = {"pip": _by("pip"), "uv": _by("uv")}
"""uv is what Colab has."""


def _rows(root: Path, installer: str, rounds: int) -> list[Row]:
    drive = root / "drive"
    drive.mkdir()
    with _machine(root, installer):
        wanted = Wanted("the requirements", "", REQUIREMENTS, str(root), "")
        python = environments.ask(wanted, [])

        def provide(restore: Callable[[str, int], bool], *, keeps: bool = False) -> float:
            """On a machine that has none of it."""
            place = root / "environments"
            begun = time.perf_counter()
            made = environments.provide(str(place), wanted, python, _complain, restore)
            took_s = time.perf_counter() - begun
            os.close(made.lock)
            if keeps:
                keeping.keep(made.directory, str(drive), 0.0)
                told = json.loads((Path(made.directory) / warm_start.KEPT).read_text())
                assert told["path"], told["problem"]
            shutil.rmtree(place)
            return took_s

        def cold() -> float:
            return provide(lambda directory, lock: False)

        def warm() -> float:
            assert list(drive.rglob("*.zip")), "it was kept before"
            said: list[str] = []
            restore = warm_start.restorer(str(drive), wanted, python, said.append)
            took_s = provide(restore)
            assert said[0].startswith("environment: cold "), said
            return took_s

        provide(lambda directory, lock: False, keeps=True)
        [archive] = drive.rglob("*.zip")
        taken = alternate({"warm": warm, "cold": cold}, rounds)
        size = f"{archive.stat().st_size / 1e6:.0f} MB on Drive"
        title = f"environment of {len(REQUIREMENTS)} packages on a new machine"
        beside = f"made by {installer}, nothing cached"
        return [Row(title, f"from Drive ({size})", beside, taken["warm"], taken["cold"])]


@contextmanager
def _machine(root: Path, installer: str) -> Iterator[None]:
    """Programs as a machine has them: its own Python, without the checkout's, and that installer."""
    programs = root / "bin"
    programs.mkdir()
    (programs / "python3").symlink_to(getattr(sys, "_base_executable", sys.executable))
    if installer == "uv":
        (programs / "uv").symlink_to(Path(sys.executable).with_name("uv"))
    cached = {"PIP_NO_CACHE_DIR": "1", "UV_NO_CACHE": "1", "PIP_QUIET": "1", "UV_NO_PROGRESS": "1"}
    with _environment({"PATH": f"{programs}:/usr/bin:/bin", **cached}):
        yield


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _complain(words: str) -> None:
    print(f"    {words}", file=sys.stderr)
