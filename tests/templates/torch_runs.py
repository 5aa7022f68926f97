"""How the templates are run: by a Python that has PyTorch, on a computer without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Self

FORKING = Path(__file__).with_name("forking.py")


def environment() -> dict[str, str]:
    """With one thread: several wait for each other in a busy loop when other tests want the cores."""
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


class Trainings:
    """Runs scripts one after the other, each as a process of its own that need not import PyTorch."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, FORKING],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, *arguments: str) -> str:
        """What `python ARGUMENTS…` prints there; it must end well."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"folder": str(folder), "arguments": arguments}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        ended = json.loads(self._process.stdout.readline())
        output: str = ended["output"]
        assert ended["status"] == 0, output
        return output

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            pass
