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
from tests.agent.test_jobs import Bench
from tests.support.house import is_running
from tests.support.mirrors import Mirrored
from tests.support.waiting import wait_until

QUICK = {"tick_s": 0.05, "courtesy_s": 0.0, "retry_s": 0.2}
PATIENT = {**QUICK, "courtesy_s": 3600.0}

GOOGLE_DRIVE = """\
import os, pathlib
def flush_and_unmount(timeout_ms):
    if pathlib.Path({refuses!r}).exists():
        raise ValueError("flush_and_unmount failed")
    pathlib.Path({flushed!r}).touch()
"""


class Landlord:
    """Whoever the machine is rented from: told that it may go."""

    def __init__(self) -> None:
        asked = self.asked = []  # type: list[str]

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.append(self.path)
                self.send_response(200)
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

    def watch(self, timing: Mapping[str, float] = QUICK) -> None:
        """Start the daemon by hand, with this patience."""
        pyz = self.place.root / f"agent-{self.place.agent.digest}.pyz"
        pyz.write_bytes(self.place.agent.content)
        (self.folder / "lease.json").write_text(json.dumps({"agent": pyz.name, "after": []}))
        words = [self.place.python, "-I", "-S", pyz, "lease", json.dumps(timing)]
        environment = {**os.environ, "HOME": str(self.place.root / "home")}
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


def test_machine_ends_after_its_job_once_drive_has_everything(rented: Rented) -> None:
    rented.place.sync({"train.py": "print(1)\n"})
    outputs = Rules(outputs=RuleSet(compile_rules(["runs/"])), output_roots=output_roots(["runs/"]))
    (rented.place.workdir / ".colabdev" / "rules.json").write_text(to_document(outputs))
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
