"""Signals at random moments of every long command: the right exit code, no traceback, no half state."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.hostile.places import COMMANDS
from tests.support.house import House
from tests.support.jobs import listed, workdir
from tests.support.syncing import SyncedFolder
from tests.support.waiting import wait_until
from tests.test_crash_points import assert_nothing_is_left

COMMANDS_THAT_WORK: Mapping[str, tuple[str, ...]] = {
    "connect": COMMANDS["connect"],
    "sync": ("sync",),
    "run": (
        "run",
        "--name",
        "job",
        "sh",
        "-c",
        'echo $COLABDEV_JOB >> "$HOME/ran"; seq 100; sleep 0.1',
    ),
    "logs": ("logs",),
    "logs -f": ("logs", "-f"),
    "status": ("status",),
    "ps": ("ps",),
    "down": ("down", "--all"),
}
POLITE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        yield house


class Campaign:
    """One computer, and one command after the other that is disturbed."""

    def __init__(self, house: House, seed: int, signals: tuple[signal.Signals, ...]) -> None:
        self.house = house
        self.dice = random.Random(seed)
        self.signals = signals
        self.struck = 0
        for number in range(40):
            self._edit(number)
        self._type("connect", *COMMANDS["connect"])
        self.whole_s = {
            name: self._type(name, *COMMANDS_THAT_WORK[name]) for name in COMMANDS_THAT_WORK
        }

    def run(self, rounds: int) -> None:
        for _ in range(rounds):
            name = self.dice.choice(list(COMMANDS_THAT_WORK))
            self._edit(self.dice.randrange(40))
            if name != "connect" and not self.house.store.names():
                self._type("connect", *COMMANDS["connect"])
            self._disturb(name, self.dice.choice(self.signals))
        self._type("connect", *COMMANDS["connect"])
        self._type("sync", "sync")
        SyncedFolder(self.house, self.house.project, workdir(self.house)).assert_equal()
        self._assert_each_job_ran_once()

    def _disturb(self, name: str, number: signal.Signals) -> None:
        """Send the signal at a random moment; the command ends as a shell would see it."""
        command = subprocess.Popen(
            [sys.executable, "-m", "colabdev", *COMMANDS_THAT_WORK[name]],
            cwd=self.house.project,
            env=self.house.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            # Not in its first moments, which belong to the interpreter.
            command.wait(self.dice.uniform(0.15, 1.0) * self.whole_s[name])
        except subprocess.TimeoutExpired:
            command.send_signal(number)
        _, said = command.communicate(timeout=60)
        code = command.returncode if command.returncode >= 0 else 128 - command.returncode
        self.struck += code == 128 + number
        told = f"{name} after {number.name}: {code} {said}"
        assert "Traceback" not in said, told
        # What was disturbed before may leave a runtime half up or half gone, which is then said.
        assert code in (0, 128 + number) or "next: " in said, told
        assert code != 70, told

    def _type(self, name: str, *words: str) -> float:
        """Undisturbed it works; the seconds that takes."""
        begun = time.monotonic()
        done = self.house.colabdev(*words)
        assert done.returncode == 0, (name, done.stdout, done.stderr)
        return time.monotonic() - begun

    def _edit(self, number: int) -> None:
        file = self.house.project / f"f{number}.py"
        file.write_bytes(self.dice.randbytes(self.dice.choice([0, 100, 50_000])))

    def _assert_each_job_ran_once(self) -> None:
        """On the machine that is up now; nothing more is known of the others."""
        wait_until(
            lambda: all(job["state"] not in ("starting", "running") for job in listed(self.house)),
            timeout_s=30,
            message="every job has ended",
        )
        ran = workdir(self.house).parent.parent / "root" / "ran"
        ids = ran.read_text().split() if ran.exists() else []
        assert sorted(ids) == sorted(set(ids)), "no job ran twice"
        assert set(ids) <= {job["id"] for job in listed(self.house)}, "none runs unknown"


def test_signals_at_random_moments_leave_nothing_half_done(house: House) -> None:
    campaign = Campaign(house, seed=5, signals=POLITE)
    campaign.run(rounds=18)
    assert campaign.struck >= 4, "the campaign must really strike"
    assert house.colabdev("down", "--all").returncode == 0
    assert_nothing_is_left(house)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [6, 7])
def test_signals_and_kills_at_random_moments_leave_nothing_half_done_long(
    house: House, seed: int
) -> None:
    campaign = Campaign(house, seed=seed, signals=(*POLITE, signal.SIGKILL, signal.SIGKILL))
    campaign.run(rounds=250)
    assert campaign.struck >= 80, "the campaign must really strike"
    assert house.colabdev("down", "--all").returncode == 0
    assert_nothing_is_left(house)


def test_reader_that_leaves_is_no_failure_of_any_command(house: House) -> None:
    house.connect()
    assert house.colabdev("run", "--name", "job", "seq", "9").returncode == 0
    for words in (
        ["status"],
        ["ps", "--json"],
        ["sync", "--json"],
        ["doctor"],
        ["logs"],
        ["--help"],
    ):
        command = subprocess.Popen(
            [sys.executable, "-m", "colabdev", *words],
            cwd=house.project,
            env=house.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert command.stdout is not None
        command.stdout.close()
        command.stdout = None
        _, said = command.communicate(timeout=60)
        assert (command.returncode in (0, 141), said) == (True, b""), words
    assert json.loads(house.colabdev("sync", "--json").stdout)["problems"] == []
