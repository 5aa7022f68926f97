"""Runs command lines of colabdev, most of them without starting an interpreter.

What is typed for the first time with such options, or in an environment that an interpreter looks at
when it starts, is a program that is started as a user's. Every other command line is a fork of a process
that has loaded colabdev: it has its own directory, environment and files, and ends as Python does.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import colabdev.__main__

LOADED = (
    "colabdev.adapters.agent_archive",
    "colabdev.adapters.broker",
    "colabdev.adapters.checkpoint_copies",
    "colabdev.adapters.host_entries",
    "colabdev.adapters.job_store",
    "colabdev.adapters.keepers",
    "colabdev.adapters.opening",
    "colabdev.adapters.project_tree",
    "colabdev.adapters.project_writer",
    "colabdev.adapters.recovery_store",
    "colabdev.adapters.windows_entries",
    "colabdev.cli.app",
    "colabdev.cli.checkpoints",
    "colabdev.cli.requests",
    "colabdev.cli.run",
    "colabdev.cli.runtimes",
    "colabdev.cli.sync",
    "colabdev.cli.wiring_checkpoints",
    "colabdev.cli.wiring_colab",
    "colabdev.cli.wiring_drive",
    "colabdev.cli.wiring_recovery",
    "colabdev.cli.wiring_starts",
    "colabdev.cli.wiring_sync",
    "colabdev.config.settings",
    "colabdev.providers.colab.provider",
    "colabdev.providers.local",
    "colabdev.services.checkpoint_safety",
    "colabdev.services.checkpoints",
    "colabdev.services.glances",
    "colabdev.services.homecoming",
    "colabdev.services.jobs",
    "colabdev.services.job_logs",
    "colabdev.services.releases",
    "colabdev.services.runtimes",
    "colabdev.services.starts",
    "colabdev.services.sync",
)
"""What most commands load."""
_CHECKOUT = Path(__file__).parents[2]
_REQUEST_BYTES = 1 << 20
_typed: set[tuple[str, ...]] = set()


def run_colabdev(
    words: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    timeout_s: float,
    forks: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end, with nothing on stdin; as `subprocess.run` with `text=True`.
    With `forks` it is a fork also when it is new."""
    is_started = not forks and _is_new(words)
    if is_started or any(map(_counts_at_start, environment)):
        return subprocess.run(
            [sys.executable, "-m", "colabdev", *words],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    request = {"argv": list(words), "cwd": str(cwd), "env": dict(environment)}
    return _loaded_one().run(request, timeout_s)


def _is_new(words: Sequence[str]) -> bool:
    """Nobody typed this command with these options yet."""
    options = {word.partition("=")[0] for word in words if word.startswith("-")}
    shape = (*words[:1], *sorted(options))
    is_new = shape not in _typed
    _typed.add(shape)
    return is_new


def _counts_at_start(variable: str) -> bool:
    return variable.startswith(("LC_", "LD_", "PYTHON")) and "KEYRING" not in variable


@functools.cache
def _loaded_one() -> _Loaded:
    """One for all tests of this process."""
    loaded = _Loaded()
    atexit.register(loaded.close)
    return loaded


class _Loaded:
    """The process that forks; any number of commands at a time."""

    def __init__(self) -> None:
        # As a house's environment, because some of what is loaded looks at it.
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.command_lines"],
                stdin=theirs.fileno(),
                # Its streams are made for pipes, which every command has, too.
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=_CHECKOUT,
                env=kept,
            )
        self._asking = threading.Lock()

    def close(self) -> None:
        self._socket.close()
        self._process.communicate()

    def run(self, request: dict[str, Any], timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Fork for that command line."""
        deadline = time.monotonic() + timeout_s
        status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with status, theirs:
            pipes = [os.pipe(), os.pipe()]
            handles = [theirs.fileno(), *(writing for _, writing in pipes)]
            with self._asking:
                socket.send_fds(self._socket, [json.dumps(request).encode()], handles)
            theirs.close()
            for _, writing in pipes:
                os.close(writing)
            pid = int(status.recv(32))
            out, err = _drain([reading for reading, _ in pipes], deadline)
            status.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                code = int(status.recv(32))
            except TimeoutError:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(
                    request["argv"], timeout_s, out.encode(), err.encode()
                ) from None
        return subprocess.CompletedProcess(request["argv"], code, out, err)


def _drain(pipes: list[int], deadline: float) -> list[str]:
    """What is written to each until nobody can write any more, or it is too late."""
    texts = dict.fromkeys(pipes, b"")
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(max(deadline - time.monotonic(), 0)):
                piece = os.read(key.fd, 65536)
                texts[key.fd] += piece
                if not piece:
                    selector.unregister(key.fd)
    for pipe in pipes:
        os.close(pipe)
    return [texts[pipe].decode().replace("\r\n", "\n").replace("\r", "\n") for pipe in pipes]


def _serve() -> None:
    """Fork for each request that comes by stdin, and return in the fork, as the command line."""
    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Who waited for a command is not waited for.
    with socket.socket(fileno=0) as requests:
        while True:
            text, handles, _, _ = socket.recv_fds(requests, _REQUEST_BYTES, 3)
            if not text:
                os._exit(0)
            if os.fork() == 0:
                break
            for handle in handles:
                os.close(handle)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    status, out, err = handles
    if pid := os.fork():
        _tell_end(pid, status, out, err)
    _take_place(json.loads(text), out, err)


def _tell_end(pid: int, status: int, *others: int) -> None:
    """Say who the command is, and how it ended."""
    for other in others:
        os.close(other)
    os.write(status, str(pid).encode())
    _, code = os.waitpid(pid, 0)
    os.write(status, str(os.waitstatus_to_exitcode(code)).encode())
    os._exit(0)


def _take_place(request: dict[str, Any], out: int, err: int) -> None:
    """Be where the command line is typed."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, handle in enumerate((nothing, out, err)):
        os.dup2(handle, number)
    os.closerange(3, 256)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[0] = request["cwd"]
    sys.argv = [colabdev.__main__.__file__, *request["argv"]]
    sys.orig_argv = [sys.executable, "-m", "colabdev", *request["argv"]]


if __name__ == "__main__":
    _serve()
    colabdev.__main__.main()
