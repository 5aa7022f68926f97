"""A job's log while everything between it and its readers breaks: every byte once, in order, in time."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.house import House
from tests.support.jobs import allow, job_directory, listed, run_bytes
from tests.support.relay import Relay
from tests.support.waiting import wait_until
from tests.support.ways import SERVERS, through_relay, through_server

RTT_S = 0.05
LAG_LIMIT_S = 2 + 2 * RTT_S
RECOVERY_LIMIT_S = 30.0
"""For a keeper or a command that has to be started again, on a machine that is busy with other tests."""

JOB = r"""
import os, random, struct, sys, time
dice = random.Random(7)
number = 0
while not os.path.exists("enough"):
    number += 1
    body = dice.randbytes(dice.choice([0, 10, 4000, 60000]))
    os.write(1, struct.pack(">II", number, len(body)) + body)
    if number % 5 == 0:
        bar = "\r{:3d}% |\u2588\u2588\u258f|".format(number % 100).encode()
        os.write(1, bar[:9])  # In the middle of a character.
        os.write(1, bar[9:])
    if number % 60 == 0:
        os.write(1, b"x" * (1 << 20) + b"\n")
    time.sleep(dice.choice([0, 0.005, 0.03]))
os.write(1, b"the end, without an end of line")
sys.exit(3)
"""


class Follower:
    """A command that prints the log; each byte is compared with the log itself as it comes."""

    def __init__(self, house: House, *arguments: str) -> None:
        self._command = subprocess.Popen(
            [sys.executable, "-m", "colabdev", *arguments],
            cwd=house.project,
            env=house.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self.received = 0
        self.wrong: str | None = None
        self._log: Path | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)

    def begin(self, log: Path) -> None:
        self._log = log
        self._thread.start()

    def kill(self) -> None:
        """kill -9, unless it has finished."""
        assert self._command.stderr is not None
        if not self._command.stderr.closed:
            self._command.kill()
            self.finish()

    def finish(self) -> tuple[int, str]:
        """Exit status and stderr of a command that ends."""
        assert self._command.stderr is not None
        said = self._command.stderr.read().decode()
        self._thread.join(60)
        assert self._command.stdout is not None
        self._command.stdout.close()
        self._command.stderr.close()
        return self._command.wait(60), said

    def job_id(self) -> str:
        """What `run` says before anything else."""
        assert self._command.stderr is not None
        line = b""
        while not line.endswith(b"\n"):
            line += self._command.stderr.read(1)
        return line.decode().split()[1]

    def _read(self) -> None:
        assert self._command.stdout is not None
        assert self._log is not None
        with self._log.open("rb") as log:
            while piece := self._command.stdout.read(1 << 16):
                if piece != log.read(len(piece)) and self.wrong is None:
                    self.wrong = f"other bytes than the log's behind byte {self.received}"
                self.received += len(piece)


class LagWatch:
    """How far a follower is behind the log, all the time; a disturbance is an excuse until it has caught
    up once, and so is a machine that lets nobody run."""

    _TICK_S = 0.02
    _STALL_S = 0.3

    def __init__(self, log: Path, follower: Follower) -> None:
        self._log = log
        self._follower = follower
        self._disturbed_at: float | None = time.monotonic()
        self._over = threading.Event()
        self.worst_s = 0.0
        self.worst_recovery_s = 0.0
        self.judged_s = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def disturb(self) -> None:
        self._disturbed_at = time.monotonic()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        grown: deque[tuple[float, int]] = deque()
        before = time.monotonic()
        while not self._over.wait(self._TICK_S):
            now = time.monotonic()
            grown.append((now, self._log.stat().st_size))
            while grown and grown[0][1] <= self._follower.received:
                grown.popleft()
            lag_s = now - grown[0][0] if grown else 0.0
            if now - before > self._STALL_S:
                self.disturb()
            self._judge(now, now - before, lag_s)
            before = now

    def _judge(self, now: float, passed_s: float, lag_s: float) -> None:
        if self._disturbed_at is None:
            self.judged_s += passed_s
            self.worst_s = max(self.worst_s, lag_s)
            return
        self.worst_recovery_s = max(self.worst_recovery_s, now - self._disturbed_at)
        # Caught up for longer than a cut takes to be noticed by whoever reads.
        if lag_s < LAG_LIMIT_S / 4 and now - self._disturbed_at > LAG_LIMIT_S / 4:
            self._disturbed_at = None


class Campaign:
    """One job, one follower that nobody touches, one that is killed and begins again."""

    def __init__(self, house: House, relay: Relay, seed: int) -> None:
        self.house = house
        self.relay = relay
        self.dice = random.Random(seed)
        self.done: dict[str, int] = {"cut": 0, "keeper": 0, "follower": 0, "freeze": 0}
        self.untouched = Follower(house, "run", "--name", "records", "python3", "-c", JOB)
        self.job_id = self.untouched.job_id()
        self.log = job_directory(house, self.job_id) / "log"
        wait_until(self.log.exists, timeout_s=20, message="it is started")
        self.untouched.begin(self.log)
        self.lag = LagWatch(self.log, self.untouched)
        self.killed = self._follow()

    def __enter__(self) -> Campaign:
        return self

    def __exit__(self, *_: object) -> None:
        self.lag.close()
        for follower in (self.untouched, self.killed):
            follower.kill()

    def run(self, *, cuts: int, pause_s: tuple[float, float]) -> None:
        """Disturb, at random moments, until that many cuts hit a connection."""
        while self.relay.cuts < cuts:
            time.sleep(self.dice.uniform(*pause_s))
            what = self.dice.choices(list(self.done), weights=[14, 2, 3, 1])[0]
            self.done[what] += 1
            self.lag.disturb()
            getattr(self, f"_{what}")()
            assert self.untouched.wrong is None, self.untouched.wrong
            assert self.killed.wrong is None, self.killed.wrong

    def end(self) -> None:
        """Let the job end; all that it wrote is everywhere, and was there in time."""
        undisturbed = self.lag.judged_s
        wait_until(
            lambda: self.lag.judged_s > undisturbed + LAG_LIMIT_S + 1,
            timeout_s=RECOVERY_LIMIT_S,
            message=f"it catches up; {self.untouched.received} of {self.log.stat().st_size} bytes",
        )
        allow(self.house, "enough")
        status, said = self.untouched.finish()
        assert status == 3, said
        assert said.count("Traceback") == 0, said
        assert self.killed.finish()[0] == 0
        size = self.log.stat().st_size
        for follower in (self.untouched, self.killed):
            assert (follower.wrong, follower.received) == (None, size)
        assert run_bytes(self.house, "logs", self.job_id)[1] == self.log.read_bytes()
        assert listed(self.house)[0]["exit_code"] == 3
        self.lag.close()
        assert self.lag.worst_s <= LAG_LIMIT_S, "in time whenever nothing disturbed"
        assert self.lag.worst_recovery_s <= RECOVERY_LIMIT_S

    def _follow(self) -> Follower:
        follower = Follower(self.house, "logs", "-f", self.job_id)
        follower.begin(self.log)
        return follower

    def _cut(self) -> None:
        self.relay.cut()

    def _keeper(self) -> None:
        self.house.end_keeper()

    def _follower(self) -> None:
        self.killed.kill()
        assert self.killed.wrong is None, self.killed.wrong
        self.killed = self._follow()

    def _freeze(self) -> None:
        self.relay.freeze()
        time.sleep(self.dice.uniform(0.2, 3))
        self.lag.disturb()
        self.relay.thaw()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path) as house:
        house.connect()
        yield house


def disturbed(
    house: House, server: str, *, seed: int, cuts: int, pause_s: tuple[float, float]
) -> Campaign:
    with ExitStack() as stack:
        stack.enter_context(through_server(house, server))
        relay = stack.enter_context(through_relay(house, rtt_s=RTT_S))
        house.keeper().wait_ready(20)
        campaign = stack.enter_context(Campaign(house, relay, seed))
        campaign.run(cuts=cuts, pause_s=pause_s)
        campaign.end()
        print(
            f"{server}: {relay.cuts} cuts, {campaign.done}, {campaign.log.stat().st_size} bytes; "
            f"lag at most {campaign.lag.worst_s:.2f} s in {campaign.lag.judged_s:.0f} s that were "
            f"judged, caught up within {campaign.lag.worst_recovery_s:.1f} s"
        )
        assert min(campaign.done.values()) >= 1, "the campaign must really disturb"
    return campaign


@pytest.mark.parametrize("server", SERVERS)
def test_log_is_exact_and_in_time_across_cuts(house: House, server: str) -> None:
    disturbed(house, server, seed=76, cuts=4, pause_s=(0.2, 1.0))


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("server", SERVERS)
def test_log_is_exact_and_in_time_across_cuts_long(house: House, server: str) -> None:
    campaign = disturbed(house, server, seed=22, cuts=60, pause_s=(0.2, 5.0))
    assert campaign.lag.judged_s >= 60, "the bound was measured"
