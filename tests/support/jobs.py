"""Jobs of a house: its project on both sides, and the command line while it runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.house import House


class Running:
    """A command line that runs; killed at the end of the `with` block."""

    def __init__(
        self,
        house: House,
        *arguments: str | bytes | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdout: int = subprocess.PIPE,
    ) -> None:
        self._command = subprocess.Popen(
            [sys.executable, "-m", "colabdev", *arguments],
            cwd=cwd or house.project,
            env=env if env is not None else house.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self.pid = self._command.pid

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self._command.kill()
        self._command.wait()
        for pipe in (self._command.stdout, self._command.stderr):
            if pipe is not None:
                pipe.close()

    def read(self, count: int) -> bytes:
        """Exactly that many bytes of stdout, less only at its end."""
        assert self._command.stdout is not None
        data = b""
        while len(data) < count and (piece := self._command.stdout.read(count - len(data))):
            data += piece
        return data

    def read_line(self) -> str:
        """The next line of stdout, "" at its end."""
        assert self._command.stdout is not None
        return self._command.stdout.readline().decode()

    def read_document(self) -> dict[str, Any]:
        """The JSON document that it prints before it goes on."""
        document: dict[str, Any] = json.loads("".join(iter(self.read_line, "}\n")) + "}")
        return document

    def stop_reading(self) -> None:
        """Close our end of its stdout."""
        assert self._command.stdout is not None
        self._command.stdout.close()
        self._command.stdout = None

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._command.send_signal(signal.SIGINT)

    def read_complaints(self, until: str) -> str:
        """Lines of stderr up to the first that has `until` in it."""
        assert self._command.stderr is not None
        said = ""
        while until not in said and (line := self._command.stderr.readline()):
            said += line.decode()
        return said

    def finish(self, timeout_s: float = 30) -> tuple[int, bytes, str]:
        """Exit status, the rest of stdout, and stderr."""
        out, err = self._command.communicate(timeout=timeout_s)
        return self._command.returncode, out or b"", err.decode()


def job_of(said: str) -> str:
    """The id of the job that `run` says it started."""
    return said.split("  job ")[1].split(maxsplit=1)[0]


def run_bytes(house: House, *arguments: str | bytes | Path, **more: Any) -> tuple[int, bytes, str]:
    """Run a command line to its end."""
    with Running(house, *arguments, **more) as running:
        return running.finish()


def workdir(house: House, name: str = "local") -> Path:
    """The project's work dir, which is a directory of this computer."""
    path = house.record(name).workdir
    assert path is not None
    return Path(path)


def job_directory(house: House, job_id: str, name: str = "local") -> Path:
    """The job's directory on the sandbox's disk."""
    disk = workdir(house, name).parent.parent
    return disk / "root" / ".colabdev" / "jobs" / job_id


def listed(house: House) -> list[dict[str, Any]]:
    """The jobs as `ps --json` has them."""
    done = house.colabdev("ps", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    jobs: list[dict[str, Any]] = document["jobs"]
    return jobs


def state_of(house: House, job_id: str) -> str:
    """The job's state by `ps`."""
    return next(str(job["state"]) for job in listed(house) if job["id"] == job_id)


def allow(house: House, gate: str) -> None:
    """Let the job go on that waits for the file `gate` in its work dir."""
    (workdir(house) / gate).touch()


def waiting_for(gate: str) -> str:
    """A shell line that waits for `allow`."""
    return f"while [ ! -e {gate} ]; do sleep 0.02; done"


def bare_environment(house: House) -> dict[str, str]:
    """What must be there for colabdev to find its files, and nothing else."""
    return {key: value for key, value in house.environment.items() if key.startswith("COLABDEV_")}


def supervisor_pid(house: House, job_id: str) -> int:
    """The process that supervises the job."""
    document = json.loads((job_directory(house, job_id) / "pid").read_text())
    return int(document["supervisor"]["pid"])


def kill(pid: int) -> None:
    """kill -9."""
    os.kill(pid, signal.SIGKILL)
