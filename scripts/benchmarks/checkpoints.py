"""What a machine's death costs, by how its checkpoints went to Drive; and what carrying them costs.

Each way has a machine of its own with the same trainer, and a Drive that uploads late and in another
order. At a random moment the machine dies; what counts is what the next one finds. All times are about
a tenth of real ones, so that a round takes seconds.
"""

from __future__ import annotations

import random
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from benchmarks.measure import Row
from colabdev.adapters.agent_archive import build_agent
from colabdev.agent import manifest
from tests.support.carrying import QUICK, Carried
from tests.support.drive import trainer
from tests.support.drive.cloud import Cloud
from tests.support.drive.faults import Faults
from tests.support.drive.machine import Machine, Saved, end_processes, read_saved
from tests.support.drive.simulated import FuseDrive

ROUNDS = 9
SIZE_BYTES = 1_000_000
INTERVAL_S = 0.5
UPLOAD = Faults(delay_s=(0.05, 0.3), bytes_per_s=4e6, reorders=True)
LIFE_S = (2.0, 5.0)
WHAT = "1 MB every 0.5 s, an upload takes 0.25 s and begins after up to 0.3 s, in any order"
TRAINING_S = 8.0

CP_LOOP = """
while :; do
  for one in local/step-*; do
    name=${one##*/}
    [ -e drive/$name ] || { cp -r $one drive/ && echo ${name#step-} >> claims; }
  done
  sleep 0.1
done
"""
RSYNC_LOOP = """
while :; do
  newest=$(ls -d local/step-* 2> /dev/null | tail -n 1)
  rsync -a --exclude '.saving*' local/ drive/ && [ -n "$newest" ] && echo ${newest#local/step-} >> claims
  sleep 0.1
done
"""


@dataclass
class Deaths:
    """What the deaths of one way's machines came to."""

    lost_steps: list[float] = field(default_factory=list)
    true_claims: int = 0
    claims: int = 0
    safe_after_s: list[float] = field(default_factory=list)
    """From a checkpoint's end on the disk to when any machine would find it whole."""

    def add(
        self, killed: float, saved: Sequence[Saved], cloud: Cloud, claimed: Sequence[int]
    ) -> None:
        """One death. What was claimed counts by the newest: that is what people rely on."""
        whole = {one.step: at for one in saved if (at := arrived(one, cloud)) is not None}
        kept = [one for one in saved if one.step in whole]
        begun = saved[0].saved - saved[0].step / trainer.STEPS_PER_S
        since = kept[-1].saved if kept else begun
        self.lost_steps.append((killed - since) * trainer.STEPS_PER_S)
        self.safe_after_s += [whole[one.step] - one.saved for one in kept]
        if claimed:
            self.claims += 1
            self.true_claims += max(claimed) in whole

    @property
    def honesty(self) -> float:
        """The share of the last claims that were true, in percent."""
        return 100 * self.true_claims / self.claims if self.claims else 0.0


def run(rounds: int) -> list[Row]:
    """Deaths, and what a training pays."""
    ways: dict[str, Callable[[Path, random.Random, Deaths], None]] = {
        "colabdev": _carried,
        "a loop of cp": lambda root, chosen, deaths: _loop(root, chosen, deaths, CP_LOOP),
        "rsync in a loop": lambda root, chosen, deaths: _loop(root, chosen, deaths, RSYNC_LOOP),
        "torch.save to the mount": _straight,
    }
    found = {label: Deaths() for label in ways}
    for number in range(rounds):
        for label, way in ways.items():
            with tempfile.TemporaryDirectory(prefix="colabdev-bench-") as root:
                way(Path(root), random.Random(number), found[label])
    ours = found.pop("colabdev")
    rows = []
    for label, beside in found.items():
        rows += [
            Row(f"steps lost at a machine's death, {WHAT}", "colabdev", label,
                ours.lost_steps, beside.lost_steps, unit="steps"),
            Row("last claims that were true", "colabdev", label,
                [ours.honesty], [max(beside.honesty, 0.1)], unit="%"),
            Row("from saved to what any machine finds", "colabdev", label,
                [median(ours.safe_after_s)], [median(beside.safe_after_s or [float("inf")])]),
        ]  # fmt: skip
    return [*rows, _throughput(max(rounds // 2, 3))]


def arrived(one: Saved, cloud: Cloud) -> float | None:
    """When the last file of it was in the cloud as it is on the disk; None when it never was."""
    for file in cloud.files():
        if file.sha256 == one.sha256:
            if file.path.endswith(".pt") and "/" not in file.path:
                return file.arrived  # A plain file has no manifest.
            beside = cloud.named(f"{file.path.rpartition('/')[0]}/{manifest.MANIFEST}")
            if beside:
                return max(file.arrived, beside[-1].arrived)
    return None


def _drive(root: Path, chosen: random.Random) -> FuseDrive:
    faults = replace(UPLOAD, seed=chosen.randrange(10**6))
    return FuseDrive(root / "google", faults, at=root / "drive")


def _carried(root: Path, chosen: random.Random, deaths: Deaths) -> None:
    drive = _drive(root, chosen)
    # Its usual patience divided by ten, as everything here.
    timing = {**QUICK, "tick_s": 0.05, "settle_s": 0.3, "retry_s": 0.5}
    archive = build_agent()
    vm = Carried(root, archive, stores=("drivefs",), accept=manifest.PUBLISHED, timing=timing)
    with closing(vm):
        words = [vm.checkpoints, SIZE_BYTES, INTERVAL_S, root / "saved.jsonl"]
        vm.start(
            "exec " + shlex.join([sys.executable, "-I", "-S", trainer.__file__, *map(str, words)])
        )
        killed = _live(root / "saved.jsonl", chosen)
        drive.lose_machine()
        end_processes(vm.workdir)
        end_processes(root / "home")
        claims = vm.claims().checkpoints.values()
    claimed = [one.step for one in claims if one.step is not None and one.is_safe(vm.accept)]
    deaths.add(killed, read_saved(root / "saved.jsonl"), drive.cloud, claimed)


def _loop(root: Path, chosen: random.Random, deaths: Deaths, script: str) -> None:
    drive = _drive(root, chosen)
    with Machine(root, drive) as machine:
        (machine.content / "drive").symlink_to(drive.mountpoint)
        (machine.content / "local").mkdir()
        machine.train(machine.content / "local", size=SIZE_BYTES, interval_s=INTERVAL_S)
        machine.start(["sh", "-c", script, str(machine.disk)])
        killed = _live(root / "saved.jsonl", chosen)
    claimed = _claims_in(machine.content / "claims")
    deaths.add(killed, machine.saved(), drive.cloud, claimed)


def _straight(root: Path, chosen: random.Random, deaths: Deaths) -> None:
    """As `torch.save` to the mount: it writes the file in place, and that it returned is the claim."""
    drive = _drive(root, chosen)
    with Machine(root, drive) as machine:
        machine.train(drive.mountpoint, size=SIZE_BYTES, interval_s=INTERVAL_S, in_place=True)
        killed = _live(root / "saved.jsonl", chosen)
    saved = machine.saved()
    deaths.add(killed, saved, drive.cloud, [one.step for one in saved])


def _live(saved: Path, chosen: random.Random) -> float:
    """Until the moment at which it is to die."""
    while not read_saved(saved):
        time.sleep(0.01)
    time.sleep(chosen.uniform(*LIFE_S))
    return time.time()


def _claims_in(path: Path) -> list[int]:
    with suppress(FileNotFoundError):
        return [int(line) for line in path.read_text().split()]
    return []


# --- what a training pays ---------------------------------------------------------------------------

TRAIN = """
import hashlib, sys, time
sys.path.insert(0, {support!r})
import os, trainer
block, steps, saved_at = os.urandom(1 << 16), 0, time.monotonic()
end = saved_at + {seconds}
while time.monotonic() < end:
    hashlib.sha256(block).digest()
    steps += 1
    if {saves} and time.monotonic() - saved_at >= 2:
        saved_at = time.monotonic()
        if os.fork() == 0:
            os.nice(10)
            os.makedirs({place!r}, exist_ok=True)
            trainer.save({place!r}, steps, os.urandom(64_000_000))
            os._exit(0)
print(steps)
"""


def _throughput(rounds: int) -> Row:
    """A training on one core that saves 64 MB every two seconds in a process of its own and has them
    carried to another disk, beside one that never saves. To a disk: what Drive's own program would cost
    is not known here, and the simulated one costs much."""
    carried: list[float] = []
    plain: list[float] = []
    for _ in range(rounds):
        for saves, results in ((True, carried), (False, plain)):
            with tempfile.TemporaryDirectory(prefix="colabdev-bench-") as folder:
                results.append(_train(Path(folder), saves=saves))
    label = "64 MB saved every 2 s and carried"
    return Row("a step of a training", label, "no saves", carried, plain, 1.05)


def _train(root: Path, *, saves: bool) -> float:
    """Seconds for a step."""
    vm = Carried(root, build_agent(), stores=("local",))
    with closing(vm):
        if saves:
            vm.start("sleep 1000")
        support = str(Path(trainer.__file__).parent)
        program = TRAIN.format(
            support=support, seconds=TRAINING_S, saves=saves, place=str(vm.checkpoints)
        )
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True
        )
    return TRAINING_S / int(done.stdout)
