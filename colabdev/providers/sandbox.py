"""The guardian of a sandbox: `python -m colabdev.providers.sandbox`, started by the local provider.

It holds the sandbox's lock for as long as it lives, empties the place, starts the SSH server and
waits. When the server ends, or somebody asks by SIGTERM, everything below it dies: a sandbox dies
whole, as a VM does, daemons included. It leaves its starter's session, so that it outlives the
terminal. Standard library only: this process lives for hours and should weigh little.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from colabdev.adapters.files import write_atomic
from colabdev.core.times import format_time
from colabdev.providers.processes import (
    become_subreaper,
    end_family,
    find_family,
    reset_signals,
)
from colabdev.providers.sandbox_files import (
    SandboxFiles,
    SandboxRecord,
    format_sandbox,
    is_lock_file,
    make_disk,
    make_folders,
    open_lock,
    take_lock,
    user_name,
    wipe,
)

BUSY = {"busy": True}
"""What is reported when another guardian has the sandbox."""

FAILED = "failed"
"""The key under which is reported why there is no sandbox."""

_SERVER_START_TIMEOUT_S = 15.0
_KILL_TIMEOUT_S = 8.0
_LOCK_CHECK_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """The guardian's command line."""

    root: Path
    name: str
    request_id: str
    public_key: str
    python: str

    def to_argv(self) -> list[str]:
        return [
            f"--root={self.root}",
            f"--name={self.name}",
            f"--request-id={self.request_id}",
            f"--public-key={self.public_key}",
            f"--python={self.python}",
        ]


def parse_options(argv: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(prog="colabdev.providers.sandbox")
    parser.add_argument("--root", required=True, type=Path)
    for option in ("--name", "--request-id", "--public-key", "--python"):
        parser.add_argument(option, required=True)
    return Options(**vars(parser.parse_args(argv)))


def main(argv: Sequence[str]) -> int:
    options = parse_options(argv)
    files = SandboxFiles(options.root, options.name)
    if os.fork() != 0:
        # The starter waits for this process only; the guardian is nobody's child, and no zombie of
        # a long-lived starter when it ends.
        os._exit(0)
    reset_signals()
    os.umask(0o077)
    try:
        return _hold(options, files)
    except OSError as exc:
        # Said here, too: the log may be on the very disk that is full.
        _report({FAILED: str(exc)})
        raise


def _hold(options: Options, files: SandboxFiles) -> int:
    with _wakeups() as wakeup:
        lock = _lock(files)
        if lock is None:
            _report(BUSY)
            return 0
        # The handle stays open until the process ends, and with it the lock is held.
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode("ascii"), 0)
        become_subreaper()
        return _guard(files, options, wakeup, lock)


def _guard(files: SandboxFiles, options: Options, wakeup: int, lock: int) -> int:
    _end_all(files)
    wipe(files)
    make_disk(files, options.python)
    write_atomic(files.authorized_keys, options.public_key.strip().encode("utf-8") + b"\n")
    server = _start_server(options)
    try:
        line = _first_line(server, wakeup)
        if line is None:
            sys.stderr.write("cannot start the sandbox: its SSH server did not start\n")
            return 1
        record = _record(files, options, server.pid, json.loads(line))
        content = format_sandbox(record)
        write_atomic(files.record, content)
        _report(json.loads(content))
        _wait(server, wakeup, lambda: is_lock_file(files, lock))
        return 0
    finally:
        _end_all(files)


def _lock(files: SandboxFiles) -> int | None:
    """The lock, ours until we end; None when somebody else has it."""
    while True:
        make_folders(files.directory, below=files.root)
        try:
            handle = open_lock(files)
        except FileNotFoundError:
            continue
        if not take_lock(handle):
            os.close(handle)
            return None
        if is_lock_file(files, handle):
            return handle
        # A release deleted it between our opening and our locking it.
        os.close(handle)


def _start_server(options: Options) -> subprocess.Popen[bytes]:
    """The server ends when its stdin does: so it cannot outlive a guardian that was killed."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "colabdev.providers.sandbox_ssh", *options.to_argv()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
    )


def _first_line(server: subprocess.Popen[bytes], wakeup: int) -> bytes | None:
    """The line in which the server says where it listens; None when it ended, was too slow, or we
    are asked to end."""
    assert server.stdout is not None
    pipe = server.stdout.fileno()
    deadline = time.monotonic() + _SERVER_START_TIMEOUT_S
    line = b""
    while not line.endswith(b"\n"):
        left_s = deadline - time.monotonic()
        ready, _, _ = select.select([pipe, wakeup], [], [], max(left_s, 0))
        if not ready or (wakeup in ready and _asked_to_end(wakeup)):
            return None
        if pipe in ready:
            piece = os.read(pipe, 65536)
            if not piece:
                return None
            line += piece
    return line


def _wait(server: subprocess.Popen[bytes], wakeup: int, is_still_ours: Callable[[], bool]) -> None:
    """Until the server has ended, somebody asks us to end, or our directory is gone: nobody could
    find us any more then, to end us."""
    while server.poll() is None and is_still_ours():
        select.select([wakeup], [], [], _LOCK_CHECK_INTERVAL_S)
        if _asked_to_end(wakeup):
            return


def _end_all(files: SandboxFiles) -> None:
    me = os.getpid()
    left = end_family(
        lambda: find_family(files.marker, {me}, spare={me}), timeout_s=_KILL_TIMEOUT_S
    )
    if left:
        sys.stderr.write(f"cannot end the sandbox: processes {sorted(left)} do not die\n")


def _record(
    files: SandboxFiles, options: Options, server_pid: int, listening: dict[str, object]
) -> SandboxRecord:
    return SandboxRecord(
        request_id=options.request_id,
        marker=files.marker,
        guardian_pid=os.getpid(),
        server_pid=server_pid,
        port=int(str(listening["port"])),
        user=user_name(),
        host_key=str(listening["host_key"]),
        since=format_time(datetime.now(UTC)),
    )


def _report(document: Mapping[str, object]) -> None:
    """Tell the starter, and let go of its pipe. A starter that was killed is no reason to end."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(document).encode("ascii") + b"\n")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.close(silence)


@contextlib.contextmanager
def _wakeups() -> Iterator[int]:
    """A pipe that gets a byte, the signal's number, for each signal we care for."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    # SIGHUP gets a handler that does nothing rather than SIG_IGN, which the user's commands would
    # inherit.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(-1)


def _asked_to_end(wakeup: int) -> bool:
    try:
        numbers = os.read(wakeup, 4096)
    except BlockingIOError:
        return False
    return signal.SIGTERM in numbers or signal.SIGINT in numbers


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
