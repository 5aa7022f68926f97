"""A rented machine that gives itself back: when, what it hands over before, and what keeps it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from colabdev.adapters.agent_archive import build_agent
from colabdev.adapters.ignore_files import compile_rules
from colabdev.adapters.project_rules import output_roots
from colabdev.agent.rules import Rules, RuleSet, to_document
from colabdev.crash_points import CRASH_POINTS
from tests.agent.test_jobs import Bench
from tests.support.carrying import QUICK as CARRYING
from tests.support.drive.simulated import FuseDrive
from tests.support.house import is_running
from tests.support.mirrors import Mirrored
from tests.support.waiting import wait_until

QUICK = {"tick_s": 0.05, "courtesy_s": 0.0, "retry_s": 0.2, "longest_retry_s": 0.2}
PATIENT = {**QUICK, "courtesy_s": 3600.0}
LEAVING = sorted(point for point in CRASH_POINTS if point.startswith("handover."))

GOOGLE_DRIVE = """\
import os, pathlib
def flush_and_unmount(timeout_ms):
    if pathlib.Path({refuses!r}).exists():
        raise ValueError("flush_and_unmount failed")
    with pathlib.Path({flushed!r}).open("a") as file:
        file.write("flushed ")
"""


class Landlord:
    """Whoever the machine is rented from: told that it may go."""

    def __init__(self) -> None:
        asked = self.asked = []  # type: list[str]
        self.status = 200
        landlord = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                if landlord.status == 200:
                    asked.append(self.path)
                self.send_response(landlord.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Rented:
    """A machine with a project that is kept on Drive, and jobs."""

    def __init__(self, root: Path) -> None:
        self.landlord = Landlord()
        self.place = Mirrored(root, build_agent())
        self.bench = Bench(root, self.place.agent)
        self.flushed, self.refuses = root / "flushed", root / "refuses"
        google = root / "site" / "google" / "colab"
        google.mkdir(parents=True)
        (google / "__init__.py").touch()
        (google / "drive.py").write_text(
            GOOGLE_DRIVE.format(flushed=str(self.flushed), refuses=str(self.refuses))
        )
        self.folder = root / "home" / ".colabdev"
        self.folder.mkdir(parents=True)
        environment = {
            "TBE_RUNTIME_ADDR": self.landlord.address,
            "PYTHONPATH": str(root / "site"),
        }
        (self.folder / "environment.json").write_text(json.dumps(environment))

    @property
    def wish(self) -> dict[str, Any]:
        return {
            "runtime": "r",
            "drive_dir": str(self.place.drive),
            "workdirs": [str(self.place.workdir)],
        }

    def watch(self, timing: Mapping[str, float] = QUICK, **variables: str) -> None:
        """Start the daemon by hand, with this patience."""
        program = self.place.root / f"agent-{self.place.agent.digest}"
        program.write_bytes(self.place.agent.content)
        (self.folder / "lease.json").write_text(json.dumps({"agent": program.name, "after": []}))
        words = [self.place.python, "-I", "-S", program, "lease", json.dumps(timing)]
        environment = {**os.environ, "HOME": str(self.place.root / "home"), **variables}
        environment["PATH"] = f"{self.place.root}/bin:{environment['PATH']}"
        subprocess.run(list(map(str, words)), check=True, timeout=30, env=environment)
        wait_until(lambda: self.said().get("pid"), message="no daemon")

    def run(self, line: str, **more: Any) -> dict[str, Any]:
        """A job with which the machine is to end, to its own end."""
        spec = {**self.bench.shell(line), "workdir": str(self.place.workdir), **more}
        talk = self.bench.talk()
        talk.request("job.start", spec=spec, follow=True, lease=self.wish)
        talk.rest()
        talk.process.close()
        return spec

    def save(self, accept: str) -> dict[str, Any]:
        """The same, of a job that saves step 20 and lets the mounted Drive have it."""
        wanted = {
            "dirs": ["runs/*/checkpoints"],
            "stores": ["drivefs"],
            "accept": accept,
            "project": "digits",
            "drive_dir": str(self.place.drive),
            "timing": CARRYING,
        }
        line = (
            "mkdir -p runs/a/checkpoints; cd runs/a; echo log > log; echo > checkpoints/step-20.pt"
        )
        self.place.workdir.mkdir(parents=True, exist_ok=True)
        return self.run(line, checkpoints=wanted)

    def said(self) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads((self.folder / "lease-state.json").read_text())
        except FileNotFoundError:
            return {}
        return told

    def wait_for_the_end(self) -> None:
        wait_until(lambda: self.landlord.asked == ["/unassign"], message=f"{self.said()}")

    def wait_for_problem(self, part: str) -> None:
        wait_until(lambda: part in self.said()["problem"], message=f"{self.said()}")
        assert self.landlord.asked == []

    def on_drive(self, pattern: str) -> list[Path]:
        return sorted((self.place.drive / "colabdev" / "digits").glob(pattern))

    def close(self) -> None:
        pid = self.said().get("pid", 0)
        (self.folder / "lease.json").unlink(missing_ok=True)
        if pid:
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(child), signal.SIGKILL)  # It waits for a machine that does not end.
            wait_until(lambda: not is_running(pid), message="the daemon does not end")
        self.bench.close()
        self.place.close()
        self.landlord.close()


@pytest.fixture
def rented(tmp_path: Path) -> Iterator[Rented]:
    rented = Rented(tmp_path)
    yield rented
    rented.close()


@pytest.fixture
def drive(rented: Rented, tmp_path: Path) -> Iterator[FuseDrive]:
    """The machine's Drive, mounted."""
    with FuseDrive(tmp_path) as drive:
        yield drive
        drive.set(hangs=False)


OUTPUTS = Rules(outputs=RuleSet(compile_rules(["runs/"])), output_roots=output_roots(["runs/"]))


def test_machine_ends_after_its_job_once_drive_has_everything(rented: Rented) -> None:
    rented.place.sync({"train.py": "print(1)\n"})
    (rented.place.workdir / ".colabdev" / "rules.json").write_text(to_document(OUTPUTS))
    rented.watch()
    spec = rented.run("mkdir runs; echo weights > runs/model; echo edited > train.py; echo said")
    rented.wait_for_the_end()
    assert rented.flushed.exists()
    assert {"train.py": b"edited\n"} in rented.place.whole().values()
    (brought,) = rented.on_drive("outputs/*.zip")
    assert zipfile.ZipFile(brought).read("runs/model") == b"weights\n"
    (log,) = rented.on_drive(f"runs/{spec['id']}/log/1.zip")
    with zipfile.ZipFile(log) as packed:
        assert packed.read("log") == b"said\n"
        assert json.loads(packed.read("status.json"))["state"] == "succeeded"


def test_machine_stays_while_something_is_nowhere_else(rented: Rented) -> None:
    """Until that is mended; then it goes, and nothing is handed over twice."""
    rented.place.sync({"train.py": "print(1)\n"})
    rented.refuses.touch()
    rented.watch()
    rented.run("true")
    rented.wait_for_problem("flush_and_unmount failed")
    asked = rented.bench.talk().request("lease.status")
    assert asked["why"].endswith("has ended")
    assert "flush_and_unmount failed" in asked["problem"]
    rented.refuses.unlink()
    rented.wait_for_the_end()
    assert len(rented.on_drive("runs/*/log/*")) == 1


def test_connected_computer_has_the_first_word_and_another_job_keeps_it(rented: Rented) -> None:
    connected = rented.bench.talk()
    rented.place.sync({"train.py": "print(1)\n"})
    rented.watch(PATIENT)
    spec = {**rented.bench.shell("sleep 600"), "workdir": str(rented.place.workdir)}
    connected.request("job.start", spec=spec)
    rented.run("true")
    assert not rented.said()["why"]
    connected.request("job.stop", id=spec["id"], grace_s=0)
    wait_until(lambda: rented.said()["why"], message="nobody noticed")
    assert rented.said()["state"] == "waiting"
    connected.process.close()
    rented.wait_for_the_end()


def test_ttl_ends_jobs_and_whoever_connects_again_keeps_the_machine(rented: Rented) -> None:
    rented.place.sync({"train.py": "print(1)\n"})
    rented.watch(PATIENT)
    talk = rented.bench.talk()
    talk.request("lease.keep", for_s=0, **rented.wish)
    wait_until(lambda: rented.said()["why"] == "its ttl is over", message="nobody noticed")
    talk.request("lease.keep", for_s=3600, **rented.wish)
    wait_until(lambda: not rented.said()["why"], message="it would go all the same")
    spec = {**rented.bench.shell("echo begun; sleep 600"), "workdir": str(rented.place.workdir)}
    talk.request("job.start", spec=spec)
    talk.request("lease.keep", for_s=0, **rented.wish)
    talk.process.close()
    rented.wait_for_the_end()
    (log,) = rented.on_drive(f"runs/{spec['id']}/log/1.zip")
    assert json.loads(zipfile.ZipFile(log).read("status.json"))["state"] == "stopped"


def test_without_drive_nothing_that_is_only_there_is_given_up(rented: Rented) -> None:
    rented.watch()
    talk = rented.bench.talk()
    spec = {**rented.bench.shell("true"), "workdir": str(rented.place.workdir)}
    rented.place.workdir.mkdir(parents=True)
    talk.request("job.start", spec=spec, follow=True)
    talk.rest()
    talk.request("lease.keep", for_s=0, **{**rented.wish, "drive_dir": None})
    rented.wait_for_problem("there is no Drive")


def test_machine_that_is_not_rented_refuses(rented: Rented) -> None:
    (rented.folder / "environment.json").unlink()
    spec = {**rented.bench.shell("true"), "workdir": str(rented.place.root)}
    with pytest.raises(Exception, match="cannot give itself back"):
        rented.bench.talk().request("job.start", spec=spec, lease=rented.wish)


def test_checkpoint_keeps_the_machine_until_it_is_as_safe_as_wanted(
    rented: Rented, drive: FuseDrive
) -> None:
    """Drive says that it has what it has not; where that is not enough, only a copy elsewhere is."""
    drive.set(stalled=True, lies=1.0)
    rented.place.sync({"train.py": "print(1)\n"})
    (rented.place.workdir / ".colabdev" / "rules.json").write_text(to_document(OUTPUTS))
    rented.watch({**QUICK, "proof_s": 1.0})
    job = rented.save("confirmed")["id"]
    rented.wait_for_problem(
        f"the newest checkpoint of {job}, step 20 is ACCEPTED (it is not done in time)"
    )
    drive.set(stalled=False)
    rented.wait_for_problem("step 20 is PUBLISHED (more is proved only by a copy on a computer")
    assert rented.on_drive("runs/*/log/*"), "all else is handed over meanwhile"
    assert not rented.flushed.exists()
    talk = rented.bench.talk()
    (told,) = talk.request("checkpoint.list")["jobs"]
    newest = told["newest"]
    confirmed = {"job": job, "name": newest["name"], "sha256": newest["sha256"]}
    talk.request("checkpoint.confirm", **confirmed)
    rented.wait_for_the_end()
    outputs = [zipfile.ZipFile(one).namelist() for one in rented.on_drive("outputs/*.zip")]
    assert [name for name in outputs[-1] if name.startswith("runs/")] == ["runs/a/log"]


@pytest.mark.long
def test_drive_that_hangs_keeps_the_machine_and_whoever_wants_it_again_does(
    rented: Rented, drive: FuseDrive
) -> None:
    drive.set(hangs=True)
    rented.watch({**QUICK, "proof_s": 0.1, "deadline_s": 2.0})
    job = rented.save("published")["id"]
    rented.wait_for_problem(
        f"Drive does not answer; the newest checkpoint of {job}, step 20 is LOCAL"
    )
    talk = rented.bench.talk()
    talk.request("lease.keep", for_s=3600, **rented.wish)
    wait_until(lambda: rented.said()["state"] == "waiting", message=f"{rented.said()}")
    drive.set(hangs=False)
    talk.request("lease.keep", for_s=0, **rented.wish)
    rented.wait_for_the_end()
    (told,) = talk.request("checkpoint.list")["jobs"]
    assert told["newest"]["level"] == "published"


@pytest.mark.parametrize(
    "point",
    [pytest.param(one, marks=[] if "flushed" in one else pytest.mark.long) for one in LEAVING],
)
def test_handing_over_is_done_once_for_each_end(rented: Rented, point: str) -> None:
    """Killed on the way it goes on; and what is made once the machine is wanted again is handed over."""
    armed = rented.place.root / "armed"
    armed.touch()
    rented.landlord.status = 500
    rented.place.workdir.mkdir(parents=True)
    rented.watch(COLABDEV_CRASH_AT=f"{point}@{armed}")
    rented.run("true")
    rented.wait_for_problem("Colab does not end the machine")
    assert not armed.exists()
    assert rented.flushed.read_text() == "flushed "
    rented.bench.talk().request("lease.keep", for_s=3600, **rented.wish)
    wait_until(lambda: not rented.said()["why"], message="it would go all the same")
    rented.landlord.status = 200
    rented.run("true")
    rented.wait_for_the_end()
    assert rented.flushed.read_text() == "flushed flushed "
    assert len(rented.on_drive("runs/*/log/*")) == 2


def test_daemon_that_was_killed_is_started_by_the_next_agent(rented: Rented) -> None:
    rented.watch()
    pid = rented.said()["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid), message="it lives")
    talk = rented.bench.talk()
    wait_until(lambda: rented.said()["pid"] != pid, message="nobody starts it")
    assert talk.request("lease.status")["state"] == "waiting"
