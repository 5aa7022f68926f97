"""Environments that one machine made and the next one takes from Drive, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from colabdev.agent import (
    archive,
    bundles,
    environment_archives,
    environments,
    jobdir,
    keeping,
    manifest,
    tree,
    warm_start,
)
from tests.agent.test_environments import UV, machine_python
from tests.agent.test_jobs import Bench, make_bench
from tests.support.waiting import wait_until
from tests.support.wheels import make_wheel

KEY = "0123456789abcdef" * 2
PYTHON = {"program": os.path.realpath(sys.executable), "version": sys.version}
SHOW = """
import subprocess, sys, tool
print(tool.__version__, sys.prefix)
sys.stdout.flush()
subprocess.run(["say-tool"], check=True)
"""


class Machines:
    """Machines with the same Python, one after the other, and the Drive and packages that they share."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.drive = root / "drive"
        self.drive.mkdir()
        self.python = machine_python(root / "machine")
        self.wheels = root / "wheels"
        make_wheel(self.wheels, "tool", "1.5", says="the tool speaks from")
        self.benches: list[Bench] = []

    @property
    def archives(self) -> list[str]:
        folder = self.drive / "colabdev" / "environments"
        return sorted(os.listdir(folder)) if folder.is_dir() else []

    def new(self, *, has_uv: bool = False) -> Bench:
        bench = make_bench(self.root / f"vm{len(self.benches)}", self.python)
        if has_uv:
            (bench.root / "bin" / "uv").symlink_to(UV)
        self.benches.append(bench)
        return bench

    def run(self, bench: Bench, line: str = "tool", show: str = SHOW) -> str:
        """The log of a job that requires that."""
        (bench.workdir / "requirements.txt").write_text(
            f"--no-index\n--find-links {self.wheels}\n{line}\n"
        )
        (bench.workdir / "show.py").write_text(show)
        log, status = bench.finish(
            {
                **bench.spec("show.py", kind=jobdir.PYTHON),
                "requirements": {"name": "reqs", "file": "requirements.txt", "lines": []},
                "environment": {"drive_dir": str(self.drive), "worth_s": 0},
            }
        )
        assert status["exit_code"] == 0, log.decode()
        return log.decode()

    def kept(self, bench: Bench) -> dict[str, Any]:
        """What the machine says of having kept its environment, once it does."""
        root = bench.jobs.parent / "environments"
        [path] = wait_until(
            lambda: list(root.glob("*/kept.json")), timeout_s=60, message="nothing is kept"
        )
        document: dict[str, Any] = json.loads(path.read_text())
        return document


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    machines = Machines(tmp_path)
    yield machines
    for bench in machines.benches:
        bench.close()


def test_environment_is_made_once_for_all_machines(machines: Machines) -> None:
    first = machines.new()
    assert "installing reqs with pip" in machines.run(first)
    kept = machines.kept(first)
    assert (kept["level"], kept["problem"]) == (manifest.CONFIRMED, "")
    assert [Path(kept["path"]).name] == machines.archives

    shutil.rmtree(machines.wheels)  # What is installed from now on comes from nowhere else.
    second = machines.new()
    asked = {"name": "reqs", "drive_dir": str(machines.drive)}
    lines = (first.workdir / "requirements.txt").read_text().splitlines()
    told = second.talk().request("environment.restore", lines=lines, **asked)
    assert (told["found"], told["here"], told["problem"]) == (True, True, "")
    assert told["cold_s"] > 0
    assert told["warm_s"] > 0
    log = machines.run(second)
    assert "installing" not in log
    place = str(second.jobs.parent / "environments")
    assert log.startswith(f"1.5 {place}")
    assert f"the tool speaks from {place}" in log
    assert machines.archives == [Path(kept["path"]).name]

    [path] = (machines.drive / "colabdev" / "environments").iterdir()
    before = path.stat().st_mtime
    log = machines.run(machines.new())
    assert log.startswith("colabdev: environment: cold ")
    assert path.stat().st_mtime > before
    told = second.talk().request("environment.restore", lines=["./lib"], **asked)
    assert (told["found"], told["here"]) == (False, False)


@pytest.mark.long
def test_damaged_archive_is_made_anew_and_kept_beside_it(machines: Machines) -> None:
    first = machines.new(has_uv=True)
    machines.run(first)
    machines.kept(first)
    [path] = (machines.drive / "colabdev" / "environments").iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    second = machines.new(has_uv=True)
    log = machines.run(second)
    assert "colabdev: the environment on Drive is not used: " in log
    assert "installing reqs with uv" in log
    assert machines.kept(second)["path"].endswith("-2.zip")
    assert len(machines.archives) == 2
    assert machines.run(machines.new(has_uv=True)).startswith("colabdev: environment: cold ")


# --- one machine's half, without jobs -------------------------------------------------------------


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment as it was made."""
    directory = tmp_path_factory.mktemp("made") / KEY
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    (directory / "lib" / "deep.py").write_text("x = 1\n")
    survey = environments._survey(str(directory))
    (directory / environments.FILES).write_text(json.dumps(survey))
    environments.finish(str(directory), {"cold_s": 214.0})
    return directory


@pytest.fixture
def drive(tmp_path: Path, pristine: Path) -> Path:
    """A Drive that has it."""
    place = tmp_path / "drive"
    place.mkdir()
    keeping.keep(str(pristine), str(place), 0.0)
    kept = json.loads((pristine / warm_start.KEPT).read_text())
    (pristine / warm_start.KEPT).unlink()
    assert kept["level"] == manifest.CONFIRMED, kept
    return place


def restore(drive: Path, home: Path, stall_s: float = 30) -> dict[str, Any]:
    """What a new machine makes of it."""
    directory = home / "environments" / KEY
    source = warm_start.Source(str(drive), PYTHON, stall_s)
    told: dict[str, Any] = {}

    def fill(lock: int) -> bool:
        told.update(source.restore(str(directory), lock))
        return bool(told["found"]) and not told["problem"]

    made = environments.use(str(directory), fill)
    if made is not None:
        os.close(made.lock)
    assert directory.exists() == (made is not None)
    return told


def archive_on(drive: Path) -> Path:
    return drive / "colabdev" / "environments" / f"{KEY}.zip"


def test_restored_environment_is_as_it_was_but_for_its_place(
    drive: Path, pristine: Path, tmp_path: Path
) -> None:
    told = restore(drive, tmp_path / "new")
    assert (told["problem"], told["cold_s"]) == ("", 214.0)
    new = tmp_path / "new" / "environments" / KEY
    ours = {environments.WHOLE, environments.FILES, warm_start.KEPT}
    for path in sorted(pristine.rglob("*")):
        name = path.relative_to(pristine)
        if path.is_symlink():
            assert (new / name).resolve().name == path.resolve().name
        elif path.is_file() and str(name) not in ours:
            moved = path.read_bytes().replace(bytes(pristine), bytes(new))
            assert (new / name).read_bytes() == moved, name
            assert os.access(new / name, os.X_OK) == os.access(path, os.X_OK)
    assert (new / "lib" / "deep.py").stat().st_mtime_ns == (
        pristine / "lib" / "deep.py"
    ).stat().st_mtime_ns


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def flip_in_list(path: Path) -> None:
    with zipfile.ZipFile(path) as packed:
        comment = packed.comment
    with zipfile.ZipFile(path, "a") as packed:
        packed.comment = comment.replace(b'"tree": "', b'"tree": "0')


def rename(path: Path) -> None:
    """As if somebody had stored another environment under this name."""
    with zipfile.ZipFile(path) as packed:
        comment = packed.comment
    with zipfile.ZipFile(path, "a") as packed:
        packed.comment = comment.replace(KEY.encode(), KEY[::-1].encode())


def lead_out(path: Path) -> None:
    """A member that would be written two folders up, in an archive that verifies otherwise."""
    rewrite(path, lambda text: text.replace('"lib/deep.py"', '"../../deep.py"'))


def link_out(path: Path) -> None:
    """A folder that is a link to elsewhere, through which a file would be written."""
    rewrite(path, lambda text: text.replace('"lib64"', '"lib"').replace('"lib"]', '"/tmp"]'))


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Another list of files, with a hash of the tree that fits it as far as one can be made."""
    with zipfile.ZipFile(path) as packed:
        comment = json.loads(packed.comment)
        contents = {info: packed.read(info) for info in packed.infolist()}
    with zipfile.ZipFile(path, "w") as packed:
        for info, content in contents.items():
            if info.filename == archive.MANIFEST:
                changed = change(content.decode()).encode()
                entries = [tree.Entry(*row[1:]) for row in json.loads(changed)["files"]]
                comment["tree"] = tree.hash_entries(entries)
            packed.writestr(info, changed if info.filename == archive.MANIFEST else content)
        packed.comment = json.dumps(comment).encode()


@pytest.mark.parametrize("damage", [truncate, flip_in_list, rename, lead_out, link_out])
def test_archive_that_is_not_whole_or_leads_out_is_refused(
    drive: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(archive_on(drive))
    told = restore(drive, tmp_path / "new")
    assert told["found"]
    assert told["problem"]
    left = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert [path.name for path in left] == [f"{KEY}.lock"]


def test_drive_that_hangs_or_is_not_there_is_given_up(drive: Path, tmp_path: Path) -> None:
    told = restore(tmp_path / "no drive", tmp_path / "one")
    assert told["problem"] == "Drive is not mounted"
    archive_on(drive).unlink()
    assert restore(drive, tmp_path / "two") == {
        "end": True,
        "found": False,
        "path": "",
        "problem": "",
    }
    os.mkfifo(archive_on(drive))  # Whoever opens it to read waits for ever.
    begun = time.monotonic()
    told = restore(drive, tmp_path / "three", stall_s=0.5)
    assert told["problem"] == "Drive does not answer"
    assert time.monotonic() - begun < 15


def test_environment_that_was_changed_is_not_kept(pristine: Path, tmp_path: Path) -> None:
    copy = tmp_path / "environments" / KEY
    shutil.copytree(pristine, copy, symlinks=True)
    (copy / "lib" / "later.py").write_text("")  # More does no harm, and is left out.
    (tmp_path / "drive").mkdir()
    keeping.keep(str(copy), str(tmp_path / "drive"), 0.0)
    assert json.loads((copy / warm_start.KEPT).read_text())["problem"] == ""
    assert restore(tmp_path / "drive", tmp_path / "new")["problem"] == ""
    assert not (tmp_path / "new" / "environments" / KEY / "lib" / "later.py").exists()

    (copy / warm_start.KEPT).unlink()
    archive_on(tmp_path / "drive").unlink()
    (copy / "lib" / "deep.py").write_text("x = 2\n")
    keeping.keep(str(copy), str(tmp_path / "drive"), 0.0)
    told = json.loads((copy / warm_start.KEPT).read_text())
    assert told["problem"] == "lib/deep.py was changed since it was made"
    assert not archive_on(tmp_path / "drive").exists()


def test_what_takes_no_time_to_make_is_not_kept(pristine: Path, tmp_path: Path) -> None:
    keeping.keep(str(pristine), str(tmp_path), 215.0)
    assert not (pristine / warm_start.KEPT).exists()


def test_environments_that_nobody_used_for_long_go(tmp_path: Path) -> None:
    now = time.time()
    keys = [f"{number:032x}" for number in range(13)]
    for number, key in enumerate(keys):
        environments.use(str(tmp_path / key), partial(make_whole, tmp_path / key))
        os.utime(tmp_path / key / environments.WHOLE, (now - number, now - number))
    old = now - 31 * 86400
    os.utime(tmp_path / keys[4] / environments.WHOLE, (old, old))
    (tmp_path / f"{13:032x}").mkdir()  # Its install was killed.
    in_use = environments.use(str(tmp_path / keys[12]), lambda lock: False)
    assert in_use is not None
    os.utime(tmp_path / keys[12] / environments.WHOLE, (old, old))
    release_all(tmp_path, but=in_use.lock)
    environments.prune(str(tmp_path), now)
    left = sorted(path.name for path in tmp_path.iterdir() if path.is_dir())
    assert left == sorted({*keys[:11], keys[12]} - {keys[4]})
    assert not (tmp_path / f"{keys[4]}.lock").exists()


def make_whole(directory: Path, lock: int) -> bool:
    directory.mkdir()
    environments.finish(str(directory), {"cold_s": 1.0})
    return True


def release_all(root: Path, but: int) -> None:
    """Close what this process has open of those locks."""
    for name in os.listdir("/proc/self/fd"):
        target = os.path.realpath(f"/proc/self/fd/{name}")
        if target.startswith(str(root)) and target.endswith(".lock") and int(name) != but:
            os.close(int(name))


def test_archives_that_nobody_used_for_long_go(drive: Path) -> None:
    whole = archive_on(drive)
    now = time.time()
    for number in range(1, 12):
        other = whole.with_name(f"{number:032x}.zip")
        shutil.copy(whole, other)
        os.utime(other, (now - number, now - number))
    torn, fresh = whole.with_name("f" * 32 + ".zip"), whole.with_name("e" * 32 + ".zip")
    for path, age_s in ((torn, 7200), (fresh, 60)):
        path.write_bytes(b"PK")
        os.utime(path, (now - age_s, now - age_s))
    os.utime(whole, (0, 0))  # It was just stored, whatever its time says.
    bundles.prune(str(whole.parent), environment_archives.KIND, str(whole), now)
    left = sorted(path.name for path in whole.parent.iterdir())
    assert left == sorted([whole.name, fresh.name, *(f"{n:032x}.zip" for n in range(1, 8))])
