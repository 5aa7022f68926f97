"""Machines die by the dozen, and each job ends as if none had: no safe step lost, one lineage, one log.

Seeded. Each job has a machine of its own that dies as often as a job goes on; with it die keepers, the
commands that go on with jobs, and machines that were just started for them. Nobody types anything but
where the keeper was killed, whose work any next command takes up.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from colabdev.agent.manifest import CONFIRMED, DISK, DRIVEFS, PUBLISHED
from tests.support.drive.faults import Faults
from tests.support.drive.simulated import FuseDrive
from tests.support.house import House
from tests.support.recovery.judge import share
from tests.support.recovery.life import ANY, KEEPER, MOST_DEATHS, RECOVERER, SAVE, Life, Tally
from tests.support.recovery.project import (
    TEMPLATE_WORDS,
    TemplateTraining,
    Training,
)
from tests.templates.conftest import torch_python
from tests.templates.torch_runs import environment
from tests.test_crash_points import assert_nothing_is_left

__all__ = ["torch_python"]

SHORT, LONG = 20, 200
AT_ONCE = 4
TRAINING: Mapping[str, Any] = {"steps": 1500, "pause_s": 0.05}
"""More than a life lasts, and two checkpoints a second: carrying them takes its share of the cores."""
STORM_DEATHS = 2
STORM_CONTINUES_WITHIN_S = 180.0
"""On a mount a claim settles for 20 s, and a death meanwhile begins it anew."""

WEATHERS: Sequence[Mapping[str, Any]] = (
    {"delay_s": (0.0, 0.4), "reorders": True},
    {"delay_s": (0.05, 0.2), "bytes_per_s": 2e6, "twins": 0.3},
    {"delay_s": (0.0, 0.1), "reorders": True, "stale_s": 0.5},
)
"""What Drive's own word can be trusted in."""


@pytest.mark.timeout(600)
def test_machines_die_and_each_job_ends_as_if_none_had(tmp_path: Path) -> None:
    judge(campaign(tmp_path, SHORT, seed=11, storms=1), SHORT)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_many_machines_die_and_each_job_ends_as_if_none_had(tmp_path: Path) -> None:
    judge(campaign(tmp_path, LONG, seed=12, storms=LONG // 20), LONG)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_template_ends_with_the_weights_of_the_uninterrupted_run(
    tmp_path: Path, torch_python: Path
) -> None:
    whole = TemplateTraining(tmp_path / "whole", tmp_path / "whole-truth")
    whole.write_code()
    words = ["train.py", *TEMPLATE_WORDS]
    subprocess.run([torch_python, *words], cwd=whole.project, env=environment(), check=True)
    training = TemplateTraining(
        tmp_path / "digits", tmp_path / "truth", python=torch_python, whole=whole.project
    )
    training.write(more='[job]\nenv = { OMP_NUM_THREADS = "1" }')
    with House(tmp_path / "house") as house:
        life = Life(house, training, random.Random(5))
        life.live(2)
        give_back(house, life.name)
        assert_nothing_is_left(house)
    assert life.tally.complaints + life.tally.stuck == []
    assert len(life.deaths) == 2


def campaign(root: Path, deaths: int, seed: int, storms: int) -> Tally:
    """As many lives as that takes, side by side in one house; nothing is left of them. `storms` more
    have a house of their own, and a Drive with a weather."""
    tally = Tally()
    with ThreadPoolExecutor(AT_ONCE) as pool, House(root / "house") as house:

        def live(number: int, most: int) -> Tally:
            place = (root / f"digits{number}", root / "truth" / str(number))
            training = Training(*place, **TRAINING)
            training.write(store=DISK, accept=CONFIRMED)
            life = Life(house, training, random.Random(seed * 1000 + number))
            life.live(min(most, MOST_DEATHS))
            give_back(house, life.name)
            return life.tally

        stormy = [
            pool.submit(in_weather, root / f"storm{number}", number, seed * 100 + number)
            for number in range(storms)
        ]
        number, left = 0, deaths - storms * STORM_DEATHS
        while left > 0:
            more = range(left, 0, -MOST_DEATHS)
            for one in pool.map(live, range(number, number + len(more)), more):
                tally.add(one)
            while stormy:
                tally.add(stormy.pop().result())
            number += len(more)
            left = deaths - sum(tally.deaths.values())
        assert_nothing_is_left(house)
    return tally


def in_weather(root: Path, number: int, seed: int) -> Tally:
    """One life whose Drive uploads late, and loses with the machine what had not arrived."""
    weather, dice = WEATHERS[number % len(WEATHERS)], random.Random(seed)
    with House(root / "house") as house:
        at = house.places.local_dir / "drive" / "MyDrive"
        faults = Faults(seed=dice.randrange(10**6), **weather)
        with FuseDrive(root / "google", faults, at=at) as drive:
            training = Training(root / "digits", root / "truth", **TRAINING)
            training.write(store=DRIVEFS, accept=PUBLISHED)
            life = Life(
                *(house, training, dice),
                accept=PUBLISHED,
                drive=drive,
                continues_within_s=STORM_CONTINUES_WITHIN_S,
            )
            life.live(STORM_DEATHS)
            give_back(house, life.name)
        assert_nothing_is_left(house)
    return life.tally


def give_back(house: House, name: str) -> None:
    down = house.colabdev("down", name)
    assert down.returncode == 0, down.stderr


def judge(tally: Tally, deaths: int) -> None:
    print(
        f"{dict(tally.deaths)} deaths, {dict(tally.troubles)}; {len(tally.continued)} times "
        f"alone {share(tally.continued):.0%}, {len(tally.helped)} times helped "
        f"{share(tally.helped):.0%}, {tally.given_up} given up; "
        f"{sorted(round(one, 1) for one in tally.lost_s)} s",
        *tally.stuck,
        sep="\n",
    )
    assert tally.complaints == []
    assert sum(tally.deaths.values()) >= deaths
    assert tally.deaths.keys() >= {ANY, SAVE}
    assert tally.troubles.keys() >= {KEEPER, RECOVERER}
    assert share(tally.continued) >= 0.95
    assert share(tally.helped) == 1.0
    # A rule that gives up too soon is not a recovery.
    assert tally.given_up <= deaths / 5
