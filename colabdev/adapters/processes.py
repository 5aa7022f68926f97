"""Processes on this computer, behind the same contract as those on a runtime."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from colabdev.adapters.pumps import OutputQueue
from colabdev.errors import ColabdevError
from colabdev.models import Completed, ExitStatus, Output
from colabdev.ports import RemoteProcess, Transport

_ANSWER_TIMEOUT_S = 10.0
"""The user's `Match exec` may run anything, and an editor starts slowly."""
_CANNOT_EXECUTE = frozenset({errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.E2BIG})


class LocalTransport:
    """`ports.Transport` to this computer itself."""

    def __init__(
        self, *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self._cwd = cwd
        self._environment = environment

    def open(self, argv: Sequence[str]) -> LocalProcess:
        return LocalProcess(argv, cwd=self._cwd, environment=self._environment)


class LocalProcess:
    """`ports.RemoteProcess` over the pipes of a child process."""

    def __init__(
        self, argv: Sequence[str], *, cwd: Path | None, environment: Mapping[str, str] | None
    ) -> None:
        try:
            self._child = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=cwd,
                env=environment,
                start_new_session=True,
            )
        except FileNotFoundError:
            self._child = _failed_exec(127, f"{argv[0]}: command not found\n")
        except OSError as exc:
            if exc.errno not in _CANNOT_EXECUTE:
                raise
            self._child = _failed_exec(126, f"{argv[0]}: {os.strerror(exc.errno).lower()}\n")
        stdout, stderr = _pipe(self._child.stdout), _pipe(self._child.stderr)
        pipes = {"stdout": stdout, "stderr": stderr}
        self._output = OutputQueue(
            {name: pipe.read for name, pipe in pipes.items()}, lambda name: pipes[name].close()
        )

    def write(self, data: bytes) -> None:
        stdin = _pipe(self._child.stdin)
        view = memoryview(data)
        try:
            while view:
                view = view[stdin.write(view) :]
        except (BrokenPipeError, ValueError):
            # As on the far side of SSH: input that nobody wants any more is dropped; the process's
            # output and status tell what happened.
            pass

    def close_stdin(self) -> None:
        _pipe(self._child.stdin).close()

    def read(self, timeout_s: float | None = None) -> Output | None:
        return self._output.get(timeout_s)

    def wait(self, timeout_s: float | None = None) -> ExitStatus:
        try:
            code = self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"still running after {timeout_s} s") from None
        if code < 0:
            return ExitStatus(signal=_signal_name(-code))
        return ExitStatus(code=code)

    def close(self) -> None:
        self.close_stdin()
        self._output.close()
        if self._child.poll() is None:
            # It may run on for hours; whenever it ends, somebody must take its status.
            threading.Thread(target=self._child.wait, daemon=True).start()


def run(
    transport: Transport,
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout_s: float | None = None,
) -> Completed:
    """Run `argv` to its end with `stdin` as its input; TimeoutError after `timeout_s`."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    process = transport.open(argv)
    # Written by a thread of its own: a process may fill its output before it reads its input.
    writer = threading.Thread(target=_feed, args=(process, stdin), daemon=True)
    writer.start()
    collected: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    try:
        while (output := process.read(_left(deadline))) is not None:
            collected[output.pipe].append(output.data)
        status = process.wait(_left(deadline))
    finally:
        process.close()
    return Completed(status, b"".join(collected["stdout"]), b"".join(collected["stderr"]))


def become(argv: Sequence[str]) -> int:
    """Go on as `argv`, which gets the terminal and our exit status. Where a process cannot become
    another (Windows), wait for it and return its status."""
    try:
        if sys.platform != "win32":
            sys.stdout.flush()
            os.execvp(argv[0], list(argv))
        return subprocess.run(argv, check=False).returncode
    except FileNotFoundError as exc:
        raise ColabdevError(
            f"cannot start {argv[0]}: it is not installed, or not on the PATH",
            hint="install OpenSSH's client (Debian: openssh-client; Windows: an optional feature)",
        ) from exc


def ask(
    argv: Sequence[str], *, cwd: str | None = None
) -> subprocess.CompletedProcess[bytes] | None:
    """What a program of this computer answers to nobody's input; None without an answer in time."""
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=cwd,
            timeout=_ANSWER_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def ssh_version() -> str | None:
    """What the system's ssh says of itself; None without one."""
    done = ask(["ssh", "-V"])
    return (done.stderr or done.stdout).decode("utf-8", "replace").strip() if done else None


def ask_ssh(arguments: Sequence[str]) -> subprocess.CompletedProcess[str] | None:
    """What the system's ssh answers, without connecting to anything; None without an answer."""
    done = ask(["ssh", *arguments])
    if done is None:
        return None
    said = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, *said)


def _feed(process: RemoteProcess, stdin: bytes) -> None:
    try:
        process.write(stdin)
        process.close_stdin()
    except Exception:  # noqa: BLE001  The reader meets the same failure and raises it.
        return


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the process did not end in time")
    return left_s


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "opened with three pipes"
    return pipe


def _signal_name(number: int) -> str:
    """Without SIG; most real-time signals have but a number."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)


def _failed_exec(code: int, message: str) -> subprocess.Popen[bytes]:
    """A child that ends as a shell would that cannot execute a command."""
    return subprocess.Popen(
        ["/bin/sh", "-c", 'printf %s "$1" >&2; exit "$2"', "sh", message, str(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
        env={"PATH": os.defpath},
    )


def detached_flags() -> int:
    """What a process needs on Windows to outlive its parent's console."""
    if sys.platform != "win32":
        return 0
    return subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
