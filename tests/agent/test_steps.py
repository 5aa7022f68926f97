"""Where a job is: by the file that it writes, by its checkpoints, and how little of that is kept."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from colabdev.adapters.agent_archive import build_agent
from colabdev.agent import steps
from colabdev.agent.jobdir import JobFiles
from colabdev.agent.step_watch import StepWatch
from tests.support.carrying import Carried


class Trainer:
    """A job's directory and its work dir, without the job."""

    def __init__(self, root: Path) -> None:
        self.workdir = root / "work"
        self.runs = self.workdir / "runs" / "a"
        self.runs.mkdir(parents=True)
        (root / "job").mkdir()
        self.files = JobFiles(str(root / "job"))
        self.begun = 1_000_000.0

    def watch(self, **progress: object) -> StepWatch:
        spec = {"workdir": str(self.workdir), "progress": progress}
        Path(self.files.spec).write_text(json.dumps(spec))
        os.utime(self.files.spec, (self.begun, self.begun))
        return StepWatch(self.files, spec)

    def write(self, text: str, after_s: float, name: str = "metrics.jsonl") -> None:
        path = self.runs / name
        path.write_text(text)
        os.utime(path, (self.begun + after_s, self.begun + after_s))

    def marks(self) -> list[tuple[float, int]]:
        told = steps.told(self.files)
        return [] if told is None else [(at - self.begun, step) for at, step in told["marks"]]


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return Trainer(tmp_path)


def test_file_that_the_project_names_tells_the_step(trainer: Trainer) -> None:
    watch = trainer.watch(file="runs/*/metrics.jsonl")
    watch.look()
    assert steps.told(trainer.files) is None
    trainer.write('{"step": 5}\n{"note": "none"}\n{"step": 9', 10)
    watch.look()
    trainer.write('{"step": 5}\n', 20)  # Written again, but no further.
    watch.look()
    trainer.write('{"step": 9, "total_steps": 90}\nno JSON\n', 30)
    watch.look()
    assert trainer.marks() == [(10, 5), (30, 9)]
    assert (steps.told(trainer.files) or {})["total"] == 90


def test_what_was_there_before_the_job_says_nothing_of_it(trainer: Trainer) -> None:
    trainer.write('{"step": 5}\n', -10, "metrics.jsonl")
    watch = trainer.watch(file="runs/*/metrics.jsonl", steps=50)
    watch.look()
    assert trainer.marks() == []


def test_last_step_that_the_project_names_counts(trainer: Trainer) -> None:
    watch = trainer.watch(file="runs/*/metrics.jsonl", steps=50)
    trainer.write('{"step": 5, "total_steps": 90}\n', 10)
    watch.look()
    assert (steps.told(trainer.files) or {})["total"] == 50


@pytest.mark.parametrize(
    "text", ["", "7\n", '{"step": "x"}\n', '{"step": -1}\n', '{"step": 1e30}\n']
)
def test_rows_that_make_no_sense_are_left_out(trainer: Trainer, text: str) -> None:
    watch = trainer.watch(file="runs/*/metrics.jsonl")
    trainer.write(text, 10)
    watch.look()
    assert trainer.marks() == []


def test_marks_that_are_kept_are_few_and_spread_over_the_whole_time() -> None:
    kept: list[steps.Mark] = []
    for number in range(5000):
        kept = steps.thinned([*kept, (10.0 * number, number)])
    assert (kept[0], kept[-1]) == ((0.0, 0), (49990.0, 4999))
    gaps = [after[0] - before[0] for before, after in pairwise(kept)]
    assert len(kept) == steps.MOST_MARKS
    assert max(gaps) <= 4 * 49990.0 / steps.MOST_MARKS


@pytest.fixture
def carried(tmp_path: Path) -> Iterator[Carried]:
    carried = Carried(tmp_path, build_agent(), Path(sys.executable))
    yield carried
    carried.close()


def test_checkpoints_tell_the_step_where_nothing_else_does(carried: Carried) -> None:
    carried.lay_out()
    files = JobFiles(str(carried.directory))
    spec = json.loads((carried.directory / "spec.json").read_text())
    watch = StepWatch(files, spec)
    for step in (10, 20):
        carried.save(step, total_steps=200)
        assert carried.run() == 0
    watch.look()
    told = steps.told(files)
    assert told is not None
    assert [step for _, step in told["marks"]] == [10, 20]
    assert told["total"] == 200
    # Finer rows say where it is, and the checkpoints still where it ends.
    (carried.checkpoints.parent / "metrics.jsonl").write_text('{"step": 25}\n')
    spec["progress"] = {"file": "runs/*/metrics.jsonl"}
    StepWatch(files, spec).look()
    told = steps.told(files)
    assert told is not None
    assert [step for _, step in told["marks"]] == [25]
    assert told["total"] == 200
