"""`colabdev sync` beside `rsync -az` and `unison` over a multiplexed connection, and beside
`tar | zstd | ssh`.

Whole programs on both sides. A change is made once a round and then taken to two places by both.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Row, alternate
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


def run(rounds: int) -> list[Row]:
    """Small changes near and far, the first sync, large files, and many changes at once."""
    rows: list[Row] = []
    for files in (FILES, MANY_FILES):
        with _house(files) as house:
            rows += _small_changes(house, files, rounds)
    with _house(FILES) as house:
        rows += _many_changes(house, rounds)
    with _house(0) as house:
        rows += _large_file(house, rounds)
    with _house(FILES) as house, thin(house) as way:
        rows.append(_first_sync(house, way, rounds))
    return rows


@contextmanager
def _house(files: int) -> Iterator[House]:
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
        subprocess.run(command, env=environment, check=True, capture_output=True)

    @property
    def beside(self) -> dict[str, Callable[[], None]]:
        """What we are compared with, by what a row calls it."""
        programs = {"rsync -az, multiplexed": self.rsync}
        return {**programs, "unison, multiplexed": self.unison} if has_unison() else programs

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
        return [
            Row(
                f"sync, {title}, {self.way.label}",
                "colabdev sync",
                name,
                taken["colabdev"],
                taken[name],
                # The budget is beside rsync, for a runtime that is far away.
                target if self.way.relay and program == self.rsync else None,
                wire_bytes=wire_bytes,
                beside_wire_bytes=self.way.wire_bytes(program),
            )
            for name, program in beside.items()
        ]


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


def _first_sync(house: House, way: Way, rounds: int) -> Row:
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
        f"first sync, {FILES:,} files, {way.label}",
        "colabdev sync",
        "tar | zstd | ssh, multiplexed",
        taken["colabdev"],
        taken["tar"],
        TARGET_FIRST,
        wire_bytes=way.wire_bytes(ours),
        beside_wire_bytes=way.wire_bytes(tar),
    )
