"""The exact trainer as a project, and what it told outside of its machines."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.drive import trainer
from tests.support.recovery import judge, told, train
from tests.support.recovery.judge import Written
from tests.support.waiting import wait_until

SETTINGS = """
[project]
name = "{name}"
[runtime]
provider = "{provider}"
[checkpoints]
dir = "runs/*/checkpoints"
stores = ["{store}"]
accept = "{accept}"
resume = "--resume {{path}}"
{more}
"""


PYTORCH = Path(__file__).parents[3] / "templates" / "pytorch"
RUN = Path("runs", "digits")
TEMPLATE_WORDS = ["--epochs", "30", "trainer.save_every=7", "trainer.plots=false", "device=cpu"]
"""Some seconds, and a checkpoint three times an epoch."""


@dataclass(frozen=True, slots=True)
class Training:
    """A project with that trainer; `truth` is where it tells of itself."""

    project: Path
    truth: Path
    steps: int = 5000
    pause_s: float = 0.02

    def write(
        self,
        *,
        provider: str = "local",
        store: str = "local",
        accept: str = "confirmed",
        more: str = "",
    ) -> None:
        """Make the project's files."""
        self.truth.mkdir(parents=True, exist_ok=True)
        self.write_code()
        shutil.copy(str(told.__file__), self.project / "told.py")
        name = self.project.name
        text = SETTINGS.format(name=name, provider=provider, store=store, accept=accept, more=more)
        (self.project / "colabdev.toml").write_text(text)

    def write_code(self) -> None:
        """What is to be told of."""
        self.project.mkdir(parents=True, exist_ok=True)
        for name, source in (("train", train), ("saving", trainer)):
            shutil.copy(str(source.__file__), self.project / f"{name}.py")

    @property
    def words(self) -> Sequence[str]:
        """SCRIPT and its arguments, of `run` or of Python."""
        numbers = [str(self.steps), str(self.pause_s)]
        return ["told.py", str(self.truth), "train.py", *numbers, str(self.enough)]

    @property
    def connect_words(self) -> Sequence[str]:
        """What its runtime needs."""
        return []

    @property
    def enough(self) -> Path:
        """Once it is there the trainer hurries."""
        return self.truth / "enough"

    @property
    def wanted(self) -> str:
        """What the uninterrupted run ends with."""
        return train.trained(self.steps)

    def ended(self, workdir: Path, log: bytes) -> str:
        """What this one ended with, by the log of its last attempt."""
        return b" ".join(re.findall(rb"^ends with (\w+)$", log, re.MULTILINE)).decode()

    def written(self) -> list[Written]:
        return judge.read_written(self.truth)

    def newest_step(self) -> int:
        """The highest that any attempt did so far; 0 for none."""
        return max((step for one in self.written() for _, step in one.steps), default=0)

    def time_of(self, step: int) -> float | None:
        """When a step of that number or a later one was first done."""
        times = [when for one in self.written() for when, done in one.steps if done >= step]
        return min(times, default=None)

    def wait_for_step(self, step: int, timeout_s: float = 60) -> float:
        """When it was done."""
        done = wait_until(
            lambda: self.time_of(step), timeout_s=timeout_s, message=f"step {step} is not done"
        )
        assert done is not None, "it was waited for"
        return done


@dataclass(frozen=True, slots=True)
class TemplateTraining(Training):
    """The trainer of `templates/pytorch`; `whole` is the folder of an uninterrupted run of it."""

    python: Path = Path()
    whole: Path = Path()

    def write_code(self) -> None:
        left = shutil.ignore_patterns("runs", "__pycache__", ".pytest_cache", "tests")
        shutil.copytree(PYTORCH, self.project, ignore=left)

    @property
    def words(self) -> Sequence[str]:
        return ["told.py", str(self.truth), "train.py", *TEMPLATE_WORDS]

    @property
    def connect_words(self) -> Sequence[str]:
        return ["--python", str(self.python)]

    @property
    def wanted(self) -> str:
        return ""

    def ended(self, workdir: Path, log: bytes) -> str:
        """What of the newest state and of the metrics is not bit for bit that of `whole`."""
        program = "import sys; from pathlib import Path; from compare import differences; "
        program += "print(*differences(*map(Path, sys.argv[1:])), end='')"
        done = subprocess.run(
            [self.python, "-c", program, self.whole / RUN, workdir / RUN],
            env={**os.environ, "PYTHONPATH": f"{PYTORCH}:{PYTORCH / 'tests'}"},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr
