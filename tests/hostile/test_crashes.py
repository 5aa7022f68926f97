"""kill -9 of what works behind a command, at each named place: the keeper, the agent, a supervisor.

Typed again the command is right, and what it leaves is what an undisturbed one leaves.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from colabdev.crash_points import CRASH_POINTS
from tests.support.house import House
from tests.support.jobs import listed, workdir
from tests.support.openssh_house import behind_openssh
from tests.support.syncing import SyncedFolder
from tests.support.waiting import wait_until


def points(*prefixes: str) -> list[str]:
    return sorted(point for point in CRASH_POINTS if point.startswith(prefixes))


SYNC = ["sync.applied"]
KEEPER = points("keeper.")
STARTING = points("agent.job_", "supervisor.")
ENDS = ("succeeded", "unknown", "lost")
PLACING = sorted(set(points("agent.")) - set(STARTING))


@dataclass(frozen=True, slots=True)
class Bench:
    """A house whose runtime is behind one of the two SSH servers, and what lies ready to kill with."""

    house: House
    armed: Path

    def arm(self, point: str) -> dict[str, str]:
        """Whoever reaches that place first dies there; the environment for what runs on this side."""
        self.armed.write_text(point)
        self.house.end_keeper()  # Its spare agents run already, and know of nothing.
        return {"COLABDEV_CRASH_AT": f"{point}@{self.armed}"}

    @property
    def has_struck(self) -> bool:
        return not self.armed.exists()


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("openssh", marks=pytest.mark.long)]
)
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("crashes")
    with House(root / "house") as house:
        house.connect()
        machine = house.record().machine
        assert machine is not None
        disk = workdir(house).parent.parent
        bench = Bench(house, root / "armed")
        make_mortal(disk / "bin" / "python3", bench.armed)
        if request.param == "embedded":
            yield bench
            return
        with behind_openssh(house):
            yield bench


def make_mortal(python: Path, armed: Path) -> None:
    """What starts there from now on dies where the file says, once."""
    first, *rest = python.read_text().splitlines()
    quoted = shlex.quote(str(armed))
    arming = f"[ -e {quoted} ] && export COLABDEV_CRASH_AT=$(cat {quoted})@{quoted}"
    python.write_text("\n".join([first, arming, *rest, ""]))


def folder(bench: Bench, tmp_path: Path) -> SyncedFolder:
    """A project of its own with some files, in step with its work dir."""
    machine = bench.house.record().machine
    assert machine is not None
    local = tmp_path / tmp_path.name
    local.mkdir()
    project = SyncedFolder(bench.house, local, Path(machine.content_dir) / local.name)
    for name in ("a.py", "b/c.py", "b/d.py", "gone.py"):
        project.write(name, name * 1000)
    project.sync()
    return project


def books(project: SyncedFolder) -> list[str]:
    """What the syncs left of their own in the work dir."""
    names = sorted(path.name for path in (project.remote / ".colabdev").iterdir())
    return [name for name in names if not name.startswith(("ask.", "code.", "mirror."))]


@pytest.mark.parametrize("point", [*PLACING, *SYNC])
def test_sync_that_was_killed_is_finished_by_the_next(
    bench: Bench, point: str, tmp_path: Path
) -> None:
    project = folder(bench, tmp_path)
    project.write("a.py", "changed" * 1000)
    project.write("b/new.py", "new")
    (project.local / "gone.py").unlink()
    killed = bench.house.colabdev("sync", cwd=project.local, env=bench.arm(point))
    wait_until(lambda: bench.has_struck, message=f"{point} was not reached: {killed.stderr}")
    # What is ours is saved when the client has its answer: the journal says the same until then.
    assert killed.returncode in ((0,) if point == "agent.saved" else (12, 137)), killed.stderr
    assert "Traceback" not in killed.stderr
    report = project.sync()
    assert (report["conflicts"], report["problems"]) == ([], [])
    project.assert_equal()
    assert project.sync()["unchanged"] == 4
    wait_until(
        lambda: books(project) == ["lock", "marker.json", "owned.json", "rules.json"],
        message="the agent does not leave what it should",
    )


@pytest.mark.parametrize("point", STARTING)
def test_job_runs_once_or_never_and_its_end_is_not_guessed(
    bench: Bench, point: str, tmp_path: Path
) -> None:
    project = folder(bench, tmp_path)
    before = {job["id"] for job in listed(bench.house)}
    # A Python job, whose code is frozen as it starts.
    project.write("job.py", "open('ran', 'a').write('x')")
    project.sync()
    killed = bench.house.colabdev("run", "job.py", cwd=project.local, env=bench.arm(point))
    assert bench.has_struck, f"{point} was not reached: {killed.stderr}"
    assert killed.returncode in (0, 125), killed.stderr
    assert "Traceback" not in killed.stderr
    wait_until(
        lambda: all(job["state"] in ENDS for job in listed(bench.house)),
        message="the job stands as it will",
    )
    jobs = [job for job in listed(bench.house) if job["id"] not in before]
    ran = (project.remote / "ran").read_text() if (project.remote / "ran").exists() else ""
    assert len(ran) <= 1, "it ran once or never"
    assert len(jobs) <= 1
    if killed.returncode == 0:
        assert (ran, [job["state"] for job in jobs]) == ("x", ["succeeded"])
    else:
        assert [job["state"] for job in jobs] in ([], ["unknown"], ["succeeded"]), killed.stderr
    again = bench.house.colabdev("run", "job.py", cwd=project.local)
    assert again.returncode == 0, again.stderr
    assert (project.remote / "ran").read_text() == ran + "x"


@pytest.mark.parametrize("point", KEEPER)
def test_keeper_that_was_killed_is_replaced(bench: Bench, point: str, tmp_path: Path) -> None:
    project = folder(bench, tmp_path)
    project.write("a.py", "changed")
    mortal = bench.arm(point)
    for _ in range(2):
        # The first may be cut off by its death, the second never; at its end it dies of quitting.
        done = bench.house.colabdev("sync", cwd=project.local, env=mortal)
        if point == "keeper.ending":
            record = bench.house.record()
            assert record.keeper is not None
            bench.house.keepers.stop(record)
        assert done.returncode in (0, 12), done.stderr
        assert "Traceback" not in done.stderr
    assert bench.has_struck, f"{point} was not reached"
    assert done.returncode == 0, done.stderr
    project.assert_equal()
    assert [runtime["state"] for runtime in bench.house.status()] == ["ready"]
