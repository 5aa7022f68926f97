"""`colabdev sync` beside `rsync -az` and `unison` over a multiplexed connection, and beside
`tar | zstd | ssh`.

Whole programs on both sides. A change is made once a round and then taken to two places by both.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import Row, alternate
from benchmarks.sync_memory import memory_rows
from benchmarks.way import Way, direct, has_unison, thin, unison_command
from tests.support.house import House

ROUNDS = 5

FILES = 3000
MANY_FILES = 30_000
SEED = 20261120
TARGET = 0.35
TARGET_FIRST = 1.05
TARGET_LARGE = 1.1
MB = 1024 * 1024
LARGE_BYTES = 64 * MB
LIMIT_S = 90.0
"""For one run of another program: unison may take minutes where others take seconds."""


Group = Callable[[int], list[Row]]
"""Some of the rows, which can be measured without the others, in so many rounds."""


@contextmanager
def a_house(files: int) -> Iterator[House]:
    with tempfile.TemporaryDirectory() as directory, House(Path(directory)) as house:
        make_tree(house.project, files)
        # The others' sessions are no editor's: the keeper would sync beside us.
        (house.project / "colabdev.toml").write_text("[sync]\nwatch = false\n")
        house.connect()
        yield house


def make_tree(root: Path, files: int) -> None:
    """About 5 KB of source-like text each, the same for the same seed."""
    dice = random.Random(SEED)
    for number in range(files):
        folder = root / f"package{number // 50:03d}"
        folder.mkdir(exist_ok=True)
        (folder / f"module{number:05d}.py").write_text(_source(dice))


def _source(dice: random.Random) -> str:
    words = [f"word{number}" for number in range(2000)]
    lines = (" ".join(dice.choices(words, k=10)) for _ in range(dice.randrange(30, 110)))
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Sides:
    """One project, taken to the same runtime by both programs."""

    house: House
    way: Way
    given_up: list[str] = field(default_factory=list)
    """Programs that did not end in time. Their sides are half done, so they are not tried again."""

    def ours(self) -> None:
        command = [str(Path(sys.executable).parent / "colabdev"), "sync", "--force"]
        subprocess.run(
            command,
            cwd=self.house.project,
            env=self.house.environment,
            check=True,
            capture_output=True,
        )

    def rsync(self) -> None:
        *ssh, host = self.way.master
        source = f"{self.house.project}/"
        command = ["rsync", "-az", "--delete", "-e", shlex.join(ssh), source, f"{host}:rsynced/"]
        subprocess.run(command, env=dict(os.environ), check=True, capture_output=True)

    def unison(self) -> None:
        machine = self.house.record().machine
        assert machine is not None
        copy = Path(machine.content_dir) / "unison"
        command, environment = unison_command(self.house, self.way, self.house.project, copy)
        if not self.given_up and not _ends_in_time(command, environment):
            self.given_up.append("unison")

    @property
    def beside(self) -> dict[str, Callable[[], None]]:
        """What we are compared with, by what a row calls it."""
        programs = {"rsync -az, multiplexed": self.rsync}
        if has_unison() and not self.given_up:
            programs["unison, multiplexed"] = self.unison
        return programs

    def all(self) -> None:
        self.ours()
        for program in self.beside.values():
            program()

    def rows(self, title: str, change: Callable[[], None], rounds: int, target: float) -> list[Row]:
        """All after the same change, in turn."""

        def changed() -> float:
            change()
            begun = time.perf_counter()
            self.ours()
            return time.perf_counter() - begun

        beside = self.beside
        taken = alternate({"colabdev": changed, **beside}, rounds)
        change()
        wire_bytes = self.way.wire_bytes(self.ours)
        rows = []
        for name, program in beside.items():
            beside_wire_bytes = self.way.wire_bytes(program)
            stopped = program == self.unison and self.given_up
            rows.append(
                Row(
                    f"sync, {title}, {self.way.label}",
                    "colabdev sync",
                    f"{name}, stopped after {LIMIT_S:.0f} s" if stopped else name,
                    taken["colabdev"],
                    [LIMIT_S] * rounds if stopped else taken[name],
                    # The budget is beside rsync, for a runtime that is far away.
                    target if self.way.relay and program == self.rsync else None,
                    wire_bytes=wire_bytes,
                    beside_wire_bytes=None if stopped else beside_wire_bytes,
                )
            )
        return rows


def _ends_in_time(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Run it, and whether it ended within the limit; then nothing of it is left."""
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return False
    assert code == 0, f"{command[0]} ended with {code}"
    return True


def _small_changes(house: House, files: int, rounds: int) -> list[Row]:
    rows = []
    edited = house.project / "package000" / "module00000.py"
    counter = iter(range(1_000_000))

    def edit() -> None:
        edited.write_text(f"# edit {next(counter)}\n" * 50)

    for place in (direct, thin):
        with place(house) as way:
            sides = Sides(house, way)
            sides.all()
            sides.all()  # The hashes of the first are kept only once its files are old enough.
            rows += sides.rows(f"nothing changed, {files:,} files", _nothing, rounds, TARGET)
            rows += sides.rows(f"one file changed, {files:,} files", edit, rounds, TARGET)
    return rows


def _nothing() -> None:
    """No change."""


def _many_changes(house: House, rounds: int) -> list[Row]:
    dice = random.Random(SEED + 1)
    files = sorted(house.project.rglob("*.py"))
    assets = house.project / "assets"
    assets.mkdir()
    for number in range(20):
        (assets / f"image{number}").write_bytes(dice.randbytes(MB))
    names = (house.project / f"assets{number}" for number in range(1_000_000))
    at = [assets]

    def switch() -> None:
        for file in files[:500]:
            file.write_text(_source(dice))

    def rename() -> None:
        at.append(at.pop().rename(next(names)))

    with direct(house) as way:
        Sides(house, way).all()
    with thin(house) as way:
        sides = Sides(house, way)

        def delete() -> None:
            aside = house.home / "aside"
            if aside.exists():
                for file in files[-500:]:
                    file.parent.mkdir(exist_ok=True)
                    shutil.copy2(aside / file.name, file)
                sides.all()
            aside.mkdir(exist_ok=True)
            for file in files[-500:]:
                file.replace(aside / file.name)

        return [
            *sides.rows("a branch switch of 500 files", switch, rounds, TARGET_LARGE),
            *sides.rows("a renamed folder of 20 MB", rename, rounds, TARGET),
            *sides.rows("500 files deleted", delete, rounds, TARGET),
        ]


def _large_file(house: House, rounds: int) -> list[Row]:
    dice = random.Random(SEED + 2)
    content = [dice.randbytes(LARGE_BYTES)]
    file = house.project / "large.bin"
    middle = LARGE_BYTES // 3 + 12_345

    def put(change: Callable[[bytes, bytes], bytes]) -> Callable[[], None]:
        def write() -> None:
            content.append(change(content.pop(), dice.randbytes(MB)))
            file.write_bytes(content[0])

        return write

    changes: dict[str, Callable[[bytes, bytes], bytes]] = {
        "overwritten 1 MB": lambda old, new: old[:middle] + new + old[middle + MB :],
        "inserted 1 MB": lambda old, new: old[:middle] + new + old[middle:],
        "appended 1 MB": lambda old, new: old + new,
        "two insertions far apart": lambda old, new: (
            old[:middle]
            + new[:1000]
            + old[middle : 2 * middle]
            + new[1000:3000]
            + old[2 * middle :]
        ),
    }
    file.write_bytes(content[0])
    with direct(house) as way:
        Sides(house, way).all()
    with thin(house) as way:
        sides = Sides(house, way)
        return [
            row
            for name, change in changes.items()
            for row in sides.rows(f"64 MB file, {name}", put(change), rounds, TARGET_LARGE)
        ]


def _first_sync(house: House, way: Way, files: int, rounds: int) -> Row:
    sides = Sides(house, way)
    machine = house.record().machine
    assert machine is not None
    workdir = f"{machine.content_dir}/{house.project.name}"

    def ours() -> float:
        shutil.rmtree(workdir, ignore_errors=True)
        begun = time.perf_counter()
        sides.ours()
        return time.perf_counter() - begun

    def tar() -> None:
        unpack = "rm -rf tarred && mkdir tarred && zstd -dcq | tar -xf - -C tarred"
        command = f"tar -cf - -C {shlex.quote(str(house.project))} . | zstd -q -T0 | "
        subprocess.run(
            command + shlex.join([*way.master, unpack]), shell=True, check=True, capture_output=True
        )

    taken = alternate({"colabdev": ours, "tar": tar}, rounds)
    return Row(
        f"first sync, {files:,} files, {way.label}",
        "colabdev sync",
        "tar | zstd | ssh, multiplexed",
        taken["colabdev"],
        taken["tar"],
        TARGET_FIRST,
        wire_bytes=way.wire_bytes(ours),
        beside_wire_bytes=way.wire_bytes(tar),
    )


def _small(files: int) -> Group:
    def rows(rounds: int) -> list[Row]:
        with a_house(files) as house:
            return _small_changes(house, files, rounds)

    return rows


def _many(rounds: int) -> list[Row]:
    with a_house(FILES) as house:
        return _many_changes(house, rounds)


def _large(rounds: int) -> list[Row]:
    with a_house(0) as house:
        return _large_file(house, rounds)


def _first(files: int, most_rounds: int) -> Group:
    def rows(rounds: int) -> list[Row]:
        with a_house(files) as house, thin(house) as way:
            return [_first_sync(house, way, files, min(rounds, most_rounds))]

    return rows


def _memory(rounds: int) -> list[Row]:
    # Once says it all: peaks do not vary as times do.
    with a_house(MANY_FILES) as house, direct(house) as way:
        return memory_rows(Sides(house, way), MANY_FILES)


GROUPS: Mapping[str, Group] = {
    "small": _small(FILES),
    "small-30000": _small(MANY_FILES),
    "many-changes": _many,
    "large-file": _large,
    "first": _first(FILES, 99),
    "first-30000": _first(MANY_FILES, 1),
    "memory": _memory,
}
