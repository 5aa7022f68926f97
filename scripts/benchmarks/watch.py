"""`colabdev sync --watch` beside `unison -repeat watch`: from a save to the file there, and at rest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.measure import Row, against_limit, alternate
from benchmarks.sync import FILES, MANY_FILES, make_tree
from benchmarks.way import AGENT_REMARK, RTT_S, Way, has_unison, thin, unison_command
from tests.support.house import House
from tests.support.waiting import wait_until

ROUNDS = 11
LIMIT_S = RTT_S + 0.1
IDLE_S = 60.0
IDLE_LIMIT = 1.0
SETTLE_S = 5.0
"""Between two saves: people pause, and so everything of the last one is over."""
_TICKS = os.sysconf("SC_CLK_TCK")


def run(rounds: int) -> list[Row]:
    """Saves at both sizes of tree, and a minute in which nothing happens."""
    rows: list[Row] = []
    for files in (FILES, MANY_FILES):
        with tempfile.TemporaryDirectory() as directory, House(Path(directory)) as house:
            make_tree(house.project, files)
            # The other's session is no editor's: the keeper would sync beside us.
            (house.project / "colabdev.toml").write_text("[sync]\nwatch = false\n")
            house.connect()
            _sync(house)  # As it is, before it is far away.
            with thin(house) as way:
                if files == MANY_FILES:
                    rows += _idle(house, files)
                rows += _saves(house, way, files, rounds)
    return rows


def _sync(house: House) -> None:
    done = house.colabdev("sync", timeout_s=300)
    assert done.returncode == 0, done.stderr


def _saves(house: House, way: Way, files: int, rounds: int) -> list[Row]:
    machine = house.record().machine
    assert machine is not None
    there = Path(machine.content_dir) / house.project.name
    twin = house.home / "twin"
    with _colabdev(house):
        ours = _saver(house.project, there)
        if not has_unison():
            taken = alternate({"colabdev": ours}, rounds)
        else:
            shutil.copytree(house.project, twin)
            with _unison(house, way, twin) as copy:
                taken = alternate({"colabdev": ours, "unison": _saver(twin, copy)}, rounds)
            shutil.rmtree(twin)
    title = f"save to there, {files:,} files, {way.label}"
    rows = [against_limit(title, "colabdev sync --watch", taken["colabdev"], LIMIT_S)]
    if "unison" in taken:
        sides = taken["colabdev"], taken["unison"]
        rows.append(Row(title, "colabdev sync --watch", f"unison -repeat {_repeat()}", *sides))
    return rows


def _saver(here: Path, there: Path) -> Callable[[], float]:
    """Saves one file; returns how long it took to be there."""
    name = "package000/module00000.py"

    def save() -> float:
        text = f"# saved at {time.time_ns()}\n" * 20
        time.sleep(SETTLE_S)
        begun = time.perf_counter()
        (here / name).write_text(text)
        wait_until(
            lambda: (there / name).read_text() == text, timeout_s=60, message="it does not come"
        )
        return time.perf_counter() - begun

    return save


def _idle(house: House, files: int) -> list[Row]:
    """The share of a core, in percent, that each end takes while nothing happens."""
    with _colabdev(house) as process:
        time.sleep(2 * SETTLE_S)
        here = [process.pid, house.keeper_pid()]
        before = _cpu_s(here), _cpu_s(_agents(house))
        time.sleep(IDLE_S)
        after = _cpu_s(here), _cpu_s(_agents(house))
    return [
        against_limit(
            f"watching, idle, {files:,} files, {where}",
            label,
            [sum(late[pid] - early.get(pid, 0.0) for pid in late) / IDLE_S * 100],
            IDLE_LIMIT,
            "%",
        )
        for where, label, early, late in zip(
            ("here", "there"),
            ("command and keeper", "agents"),
            before,
            after,
            strict=True,
        )
    ]


@contextmanager
def _colabdev(house: House) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "colabdev"), "sync", "--watch", "--force"],
        cwd=house.project,
        env=house.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout as lines:
        try:
            lines.readline()
            time.sleep(SETTLE_S)
            yield process
        finally:
            process.kill()


@contextmanager
def _unison(house: House, way: Way, here: Path) -> Iterator[Path]:
    """Watches `here` and a folder in the sandbox; gives that folder."""
    machine = house.record().machine
    assert machine is not None
    copy = Path(machine.content_dir) / "unison"
    command, environment = unison_command(house, way, here, copy)
    command += ["-repeat", _repeat()]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(
                lambda: len(list(copy.rglob("*.py"))) >= len(list(here.rglob("*.py"))),
                timeout_s=300,
                message="unison's first sync",
            )
            yield copy
        finally:
            process.terminate()


def _repeat() -> str:
    """How unison watches: Debian's has no unison-fsmonitor, and then it looks every second."""
    return "watch" if shutil.which("unison-fsmonitor") else "1"


def _agents(house: House) -> list[int]:
    """The agents that run in the house's sandboxes; mirrors are measured by themselves."""
    state = os.fsencode(house.places.state_dir)
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (directory / "cmdline").read_bytes()
            if AGENT_REMARK in words and state in (directory / "environ").read_bytes():
                found.append(int(directory.name))
    return found


def _cpu_s(pids: list[int]) -> dict[int, float]:
    """The processor time that each of these processes took so far, of those that live still."""
    found = {}
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found[pid] = (int(fields[11]) + int(fields[12])) / _TICKS
    return found
