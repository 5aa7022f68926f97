"""One job, on machines that die under it, while one reader follows it from its start to its end."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from colabdev.agent.claims import Claims, read_claims
from colabdev.agent.manifest import CONFIRMED
from tests.support.drive.simulated import FuseDrive
from tests.support.house import House, is_running
from tests.support.jobs import Running, job_of
from tests.support.recovery.judge import Death, History, complaints
from tests.support.recovery.project import Training
from tests.support.waiting import wait_until

CONTINUES_WITHIN_S = 60.0
"""On a machine that is busy with other tests."""
ENDS_WITHIN_S = 120.0
POLL_S = 0.1
"""To know of a life is to read all that its trainer told, and several lives are looked at."""
SETTLED_S = 5.0
"""A keeper that takes a new machine up needs some time until it has its logs."""
MOST_DEATHS = 3
"""So often a job goes on."""

ANY, SAVE, START = "any", "save", "start"
MOMENTS = (ANY, ANY, SAVE, SAVE, START)
"""When a machine dies: at any time, around a save, or, seldom a second time, because that is where a
job is given up, when the trainer has hardly begun."""
QUIET, KEEPER, RECOVERER, AGAIN = "nothing", "keeper", "recoverer", "the new machine"
TROUBLES = (QUIET, QUIET, KEEPER, RECOVERER, RECOVERER, AGAIN)
"""What else goes wrong at a death."""


@dataclass
class Tally:
    """What lives came to."""

    deaths: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    continued: list[bool] = field(default_factory=list)
    """Of each death, whether the job went on with nobody touching anything."""
    helped: list[bool] = field(default_factory=list)
    """Of each death with a killed keeper, whether it went on once somebody typed a command."""
    given_up: int = 0
    """Jobs that were left, as they must be, because they had made no progress."""
    lost_s: list[float] = field(default_factory=list)
    """From a death to the next sign of the job."""
    complaints: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    """What is known of each job that did not go on."""

    def add(self, other: Tally) -> None:
        self.deaths += other.deaths
        self.troubles += other.troubles
        self.continued += other.continued
        self.helped += other.helped
        self.given_up += other.given_up
        self.lost_s += other.lost_s
        self.stuck += other.stuck
        self.complaints += other.complaints


class Life:
    """A project of its own on a runtime of its own, both called `name`."""

    def __init__(
        self,
        house: House,
        training: Training,
        dice: random.Random,
        *,
        accept: str = CONFIRMED,
        drive: FuseDrive | None = None,
        continues_within_s: float = CONTINUES_WITHIN_S,
    ) -> None:
        """With a `drive` the house's Drive is that one, which loses what had not arrived when a machine
        dies; so it has one life."""
        self.house = house
        self.training = training
        self.name = training.project.name
        self.dice = dice
        self.tally = Tally()
        self.deaths: list[Death] = []
        self.job = ""
        self._accept = accept
        self._drive = drive
        self._continues_within_s = continues_within_s

    def live(self, deaths: int = MOST_DEATHS) -> None:
        """From `connect` to the judge's word."""
        done = self.type("connect", self.name, *self.training.connect_words)
        assert done.returncode == 0, done.stderr
        read = self.training.truth / "read"
        with (
            read.open("wb") as out,
            Running(
                self.house,
                *("run", "--name", "train", *self.training.words),
                cwd=self.training.project,
                stdout=out.fileno(),
            ) as running,
        ):
            self.job = job_of(running.read_complaints("job "))
            goes_on = True
            while goes_on and len(self.deaths) < deaths:
                goes_on = self.die()
            self.training.enough.touch()
            # One that waits for what does not come is ended with the block.
            ended = running.finish(ENDS_WITHIN_S) if goes_on or self.given_up() else None
        self.judge(read.read_bytes(), ended if goes_on else None)

    # --- a death ---

    def die(self) -> bool:
        """Let the machine die at some moment, and perhaps more with it; whether the job goes on."""
        moments = MOMENTS if self.dice.random() < 0.5 or not self.deaths else MOMENTS[:-1]
        moment, trouble = self.dice.choice(moments), self.dice.choice(TROUBLES)
        if trouble == AGAIN and len(self.deaths) + 2 > MOST_DEATHS:
            trouble = QUIET  # It goes on no more often.
        self.wait_for(moment)
        dying = self.training.written()[-1]
        if trouble == KEEPER:
            self.house.end_keeper(self.name)
        self.kill_machine(is_watched=trouble != KEEPER)
        self.tally.deaths[moment] += 1
        begun = time.monotonic()
        self.make(trouble)
        goes_on = self.wait_for_what_comes(dying.attempt, helps=trouble == KEEPER)
        self.tally.lost_s.append(time.monotonic() - begun)
        return goes_on

    def kill_machine(self, *, is_watched: bool) -> None:
        safe = max([self.safe(), *(death.safe for death in self.deaths)])
        self.house.provider.kill(self.name)
        if self._drive is not None:
            self._drive.lose_machine()
            self._drive.mount()
        last = self.training.written()[-1]
        moment = last.pieces[-1][0]
        lived_s = moment - last.pieces[0][0]
        self.deaths.append(Death(last.attempt, moment, safe, is_watched and lived_s > SETTLED_S))

    def wait_for(self, moment: str) -> None:
        """Until the machine is to die."""
        before = self.deaths[-1].attempt if self.deaths else 0
        self.wait_until(lambda: self.newest_attempt() > before, "it does not begin")
        if moment == START:
            # Without its code, which a keeper brings soon after the start, nobody can go on with it.
            self.wait_until((self.place / "code.zip").exists, "its code does not come")
            time.sleep(self.dice.uniform(0.0, 0.2))
            return
        begun_after = self.training.written()[-1].begun_after
        self.wait_until(lambda: self.safe() > begun_after, "nothing is safe")
        if moment == SAVE:
            saves = self.saves()
            self.wait_until(lambda: self.saves() > saves, "it saves no more")
            time.sleep(self.dice.uniform(0.0, 0.3))
        else:
            time.sleep(math.exp(self.dice.uniform(math.log(0.05), math.log(4.0))))

    def make(self, trouble: str) -> None:
        """What goes wrong while the job is to go on."""
        if trouble == KEEPER:
            # Nobody is left who could go on by himself; any command will do.
            self.type("ps")
        elif trouble == RECOVERER:
            self.wait_until(self.recoverer, "nobody goes on with it")
            time.sleep(self.dice.uniform(0.0, 1.5))
            if not (pid := self.recoverer()):
                return
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        elif trouble == AGAIN:
            attempts = self.newest_attempt()
            self.wait_until(
                lambda: self.house.provider.find(self.name) or self.newest_attempt() > attempts,
                "there is no new machine",
            )
            time.sleep(self.dice.uniform(0.0, 0.5))
            if self.newest_attempt() > attempts:
                return
            self.kill_machine(is_watched=False)
        self.tally.troubles[trouble] += 1

    def wait_for_what_comes(self, attempt: int, *, helps: bool) -> bool:
        """Whether the job goes on; it need not when it had made no progress."""
        outcomes = self.tally.helped if helps else self.tally.continued
        with suppress(AssertionError):
            wait_until(
                lambda: self.newest_attempt() > attempt or self.given_up(),
                timeout_s=self._continues_within_s,
                poll_s=POLL_S,
                message="it does not go on",
            )
        last = self.training.written()[-1]
        made_progress = last.attempt == 1 or self.deaths[-1].safe > last.begun_after
        if last.attempt > attempt:
            outcomes.append(True)
        elif self.given_up() and not made_progress:
            self.tally.given_up += 1
        else:
            outcomes.append(False)
            self.tally.stuck.append(f"{self.name}: {self.given_up()}\n{self.describe()}")
        return last.attempt > attempt

    def wait_until(self, condition: Callable[[], object], otherwise: str) -> None:
        try:
            wait_until(
                condition, timeout_s=self._continues_within_s, poll_s=POLL_S, message=otherwise
            )
        except AssertionError as exc:
            raise AssertionError(f"{self.name}: {otherwise}: {self.describe()}") from exc

    # --- what there is to see ---

    def newest_attempt(self) -> int:
        """The highest that has begun."""
        return max((one.attempt for one in self.training.written() if one.pieces), default=0)

    def saves(self) -> int:
        """How many checkpoints were seen of this attempt, safe or not."""
        return len(self.claims().checkpoints)

    def safe(self) -> int:
        """The newest step that is claimed to be safe; 0 for none."""
        found = self.claims().safe(self._accept)
        return found.step or 0 if found else 0

    def claims(self) -> Claims:
        """What is claimed on the machine of the job's checkpoints."""
        jobs = self.workdir.parent.parent / "root" / ".colabdev" / "jobs"
        return read_claims(str(jobs / self.job / "checkpoints" / "journal.jsonl"))

    def recoverer(self) -> int:
        """The process that goes on with the job; 0 for none."""
        wanted = [b"--continue", self.job.encode()]
        for directory in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (directory / "cmdline").read_bytes().split(b"\0")
                if all(word in words for word in wanted) and is_running(int(directory.name)):
                    return int(directory.name)
        return 0

    def given_up(self) -> str:
        """Why the job is not gone on with, for ever; "" when it may be."""
        with suppress(FileNotFoundError):
            standing = json.loads((self.place / "recovery.json").read_text())
            return str(standing["why"]) if standing["is_over"] else ""
        return ""

    @property
    def workdir(self) -> Path:
        """The project on the sandbox's disk."""
        return self.house.places.local_dir / "sandboxes" / self.name / "disk/content" / self.name

    @property
    def place(self) -> Path:
        """What is known of the job here."""
        return self.house.places.state_dir / "jobs" / self.job

    def type(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.house.colabdev(*words, cwd=self.training.project)

    def describe(self) -> str:
        """All that may tell why."""
        parts = [str(self.deaths), str(dict(self.tally.troubles))]
        said = self.house.places.log_dir / f"continue-{self.name}.log"
        for path in [self.place / "recovery.json", self.place / "job.json", said]:
            with suppress(OSError):
                parts.append(f"--- {path.name}\n{path.read_text()[-3000:]}")
        with suppress(OSError):
            parts.append(self.house.keeper_log(self.name)[-3000:])
        return "\n".join(parts)

    # --- what came of it ---

    def judge(self, read: bytes, ended: tuple[int, bytes, str] | None) -> None:
        """Add what was wrong with all of it; `ended` is how the reader did that saw the job's end."""
        written = self.training.written()
        logs = {number: self.log(number) for number in sorted({one.attempt for one in written})}
        history = History(
            written=written,
            deaths=self.deaths,
            claimed=self.claimed(),
            logs=logs,
            read=read,
            ended=self.training.ended(self.workdir, logs[max(logs)]) if ended else None,
            wanted=self.training.wanted,
        )
        wrong = complaints(history)
        if ended and ended[0]:
            wrong.append(f"run ended with {ended[0]}: {ended[2]}")
        self.tally.complaints += [f"{self.name}: {one}" for one in wrong]

    def log(self, attempt: int) -> bytes:
        """What is here of it."""
        path = self.place / ("log" if attempt == 1 else f"log.{attempt}")
        return path.read_bytes() if path.exists() else b""

    def claimed(self) -> list[int]:
        """The attempts that the store knows, one for each entry; a twin that Drive made is none."""
        drive = self.house.places.local_dir / "drive" / "MyDrive" / "colabdev"
        entries = drive.glob(f"{self.name}/runs/{self.job}/attempts/*.json")
        found = {(path.name, path.read_bytes()) for path in entries}
        return sorted(int(name[:-5]) for name, _ in found if name[:-5].isdecimal())
