"""The processes of a sandbox: finding all of them, and ending all of them.

A process belongs to a sandbox when it descends from the sandbox's guardian or carries the sandbox's
marker in its environment. Each covers what the other misses: a daemon that leaves its parents keeps
the marker, and one that empties its environment stays a descendant of a subreaper.

On macOS there is neither /proc nor a subreaper: only `ps` is asked, so a process that left its
parents is not found there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Set
from dataclasses import dataclass

MARKER_VARIABLE = "COLABDEV_SANDBOX"

_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Process:
    """One row of the process table."""

    pid: int
    parent: int
    group: int
    started: str
    """When, in the system's own words: the same id at another time is another process."""
    alive: bool
    """False of a zombie: it holds nothing any more and only waits for its parent to look."""


def become_subreaper() -> None:
    """Make orphaned descendants children of this process, so that they stay findable (Linux)."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")


def reset_signals() -> None:
    """Undo what a caller may have left to be inherited, such as `nohup`'s or a background job's
    ignored signals; Python itself ignores SIGPIPE and restores it for the children it starts."""
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    for number in signal.valid_signals() - {signal.SIGPIPE}:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def list_processes() -> list[Process]:
    """The process table, as far as this user may see it."""
    if os.path.isdir("/proc/self"):
        rows = (_read_process(int(entry)) for entry in os.listdir("/proc") if entry.isdecimal())
        return [row for row in rows if row is not None]
    listing = subprocess.run(
        ["/bin/ps", "-axo", "pid=,ppid=,pgid=,state=,lstart="],
        stdout=subprocess.PIPE,
        check=True,
        timeout=10,
    )
    return [_parse_ps_line(line) for line in listing.stdout.decode("ascii", "replace").splitlines()]


def descendants(roots: Set[int], table: list[Process]) -> set[Process]:
    """Every process below one of `roots`."""
    children: dict[int, list[Process]] = {}
    for process in table:
        children.setdefault(process.parent, []).append(process)
    found: set[Process] = set()
    seen = set(roots)
    pending = list(roots)
    while pending:
        for child in children.get(pending.pop(), []):
            if child.pid not in seen:
                seen.add(child.pid)
                pending.append(child.pid)
                found.add(child)
    return found


def carries_marker(pid: int, marker: str) -> bool:
    """Whether the process was started with the sandbox's marker; False when we may not look."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read().split(b"\0")
    except OSError:
        return False
    return f"{MARKER_VARIABLE}={marker}".encode("ascii") in environment


def find_family(marker: str, roots: Set[int], *, spare: Set[int]) -> set[Process]:
    """The processes of a sandbox, zombies too, except those in `spare`: the `roots`, what carries the
    marker, and everything below either."""
    table = list_processes()
    marked = {row.pid for row in table if row.alive and carries_marker(row.pid, marker)}
    named = {row for row in table if row.pid in marked | roots}
    family = named | descendants(marked | roots, table)
    return {process for process in family if process.pid not in spare}


def living(processes: Set[Process]) -> set[int]:
    """Which of them are no zombies."""
    return {process.pid for process in processes if process.alive}


def end_family(
    find: Callable[[], set[Process]],
    *,
    timeout_s: float,
    reap: Callable[[], None] = lambda: None,
) -> set[int]:
    """Kill what `find` finds until it finds nothing living; returns what is left at the deadline.

    Everything is stopped before anything is killed: a process that runs on while its neighbours die
    could start new ones faster than they are found.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        frozen = freeze_family(find, timeout_s=deadline - time.monotonic())
        dying = living(frozen)
        for pid in dying:
            _send(pid, signal.SIGKILL)
        while dying and time.monotonic() < deadline:
            reap()
            dying &= living(find())
            if dying:
                time.sleep(_POLL_S)
        known = {_identity(process) for process in frozen}
        # A zombie that was not there before had a parent, and may have had a child, that live.
        left = {row.pid for row in find() if row.alive or _identity(row) not in known}
        if not left or time.monotonic() >= deadline:
            return left


def freeze_family(find: Callable[[], set[Process]], *, timeout_s: float) -> set[Process]:
    """Stop what `find` finds until it finds nothing new, or time is up; returns all of it.

    With each process its group is stopped, in one step for the kernel. One that forks and ends all the
    time is gone whenever it was found, but its zombie has its group; nobody takes the zombies away
    once the parents are stopped.
    """
    deadline = time.monotonic() + timeout_s
    found: dict[tuple[int, str], Process] = {}
    while new := [process for process in find() if _identity(process) not in found]:
        for group in {process.group for process in new}:
            _stop_group(group)
        for pid in living(set(new)):
            _send(pid, signal.SIGSTOP)
        found |= {_identity(process): process for process in new}
        if time.monotonic() >= deadline:
            break
    return set(found.values())


def _identity(process: Process) -> tuple[int, str]:
    return process.pid, process.started


def _stop_group(group: int) -> None:
    # 0 is a group outside of this container, and to killpg it is our own.
    if group > 1 and group != os.getpgrp():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGSTOP)


def _send(pid: int, number: signal.Signals) -> None:
    # Gone already, or another user's: the next look tells which.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _read_process(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    # The name stands in parentheses and may hold anything, a closing parenthesis too.
    fields = text[text.rindex(b")") + 2 :].split()
    state, parent, group, threads = fields[0], int(fields[1]), int(fields[2]), int(fields[17])
    return Process(
        pid=pid,
        parent=parent,
        group=group,
        started=fields[19].decode("ascii"),
        # A process whose first thread has ended looks like a zombie while its other threads run on.
        alive=state not in (b"Z", b"X") or threads > 1,
    )


def _parse_ps_line(line: str) -> Process:
    pid, parent, group, state, started = line.split(maxsplit=4)
    return Process(
        pid=int(pid),
        parent=int(parent),
        group=int(group),
        started=started.strip(),
        alive=not state.startswith("Z"),
    )
