"""Types command lines quickly: a process that has colabdev loaded and forks for each of them.

Each command is a process of its own, with its own directory, environment, limits and files, as it would
be from a shell. Only the start of the interpreter is saved: what depends on it, as the locale does, is
not tried.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.command_lines import LOADED

_CLONE_NEWNET = 0x40000000
_PRELOADED = (
    *LOADED,
    "colabdev.adapters.templates",
    "colabdev.cli.wiring_doctor",
    "colabdev.services.archives",
    "colabdev.services.datasets",
    "colabdev.services.doctor",
    "colabdev.services.projects",
)


@dataclass(frozen=True, slots=True)
class Typed:
    """How a command line ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command line is typed; what is None is as usual."""

    cwd: Path
    environment: Mapping[str, str]
    out: Path | None = None
    err: Path | None = None
    closed: tuple[int, ...] = ()
    umask: int = 0o022
    limits: tuple[tuple[str, int], ...] = ()
    no_network: bool = False
    deleted: bool = False
    """The directory is removed once the command stands in it."""


class Pipe:
    """What a command writes there, up to what a pipe holds; no limit on files counts for it."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        self.path = f"/proc/{os.getpid()}/fd/{self._writing}"

    def finish(self) -> str:
        """All that was written, once nobody can write any more."""
        os.close(self._writing)
        with open(self._reading, "rb") as pipe:
            return pipe.read().decode("utf-8", "replace")


class Typist:
    """One command line at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.typist"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )

    def __enter__(self) -> Typist:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()

    def type(self, words: Sequence[str], place: Place) -> Typed:
        """Run the command line to its end."""
        out, err = Pipe(), Pipe()
        request = {
            "argv": list(words),
            "cwd": str(place.cwd),
            "env": dict(place.environment),
            "files": [os.devnull, str(place.out or out.path), str(place.err or err.path)],
            "closed": place.closed,
            "umask": place.umask,
            "limits": place.limits,
            "no_network": place.no_network,
            "deleted": place.deleted,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        return Typed(code, out.finish(), err.finish())


def serve() -> None:
    """Fork for each line of stdin; answer with its exit status, 128+n for a signal."""
    for name in _PRELOADED:
        __import__(name)
    for line in sys.stdin.buffer:
        pid = os.fork()
        if pid == 0:
            _be_typed(json.loads(line))
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        os.write(1, f"{code if code >= 0 else 128 - code}\n".encode())


def _be_typed(request: dict[str, Any]) -> None:
    """Take the place that was asked for, run the command line, and end."""
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(request["cwd"])
        if request["deleted"]:
            os.rmdir(request["cwd"])
        _take_files(request["files"], request["closed"])
        os.environ.clear()
        os.environ.update(request["env"])
        os.umask(request["umask"])
        if request["no_network"] and ctypes.CDLL(None).unshare(_CLONE_NEWNET):
            raise OSError("cannot have a network of its own")
        for name, value in request["limits"]:
            resource.setrlimit(getattr(resource, name), (value, value))
        from colabdev.__main__ import run  # noqa: PLC0415  In the child only.

        sys.argv = ["colabdev", *request["argv"]]
        code = run()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:  # noqa: BLE001  What nobody caught is what a user would see.
        traceback.print_exc()
    finally:
        os._exit(code)


def _take_files(paths: Sequence[str], closed: Sequence[int]) -> None:
    for number, path in enumerate(paths):
        handle = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY)
        os.dup2(handle, number)
        os.close(handle)
        if number in closed:
            os.close(number)
    streams = [
        None if number in closed else open(number, mode, closefd=False)  # noqa: SIM115
        for number, mode in enumerate("rww")
    ]
    sys.stdin, sys.stdout, sys.stderr = streams


if __name__ == "__main__":
    serve()
