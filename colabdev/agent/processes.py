"""Processes of this machine by number, and how to know one again: its start time and the boot."""

from __future__ import annotations

import os
import signal
from typing import Any, Callable, Dict, List, Optional, Set

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
HAS_PROC = os.path.exists("/proc/self/stat")


def boot_id() -> str:
    """Tells one boot of this machine from the next; "" where nothing does."""
    try:
        with open(_BOOT_ID) as file:
            return file.read().strip()
    except OSError:
        return ""


def identify(pid: int) -> Dict[str, Any]:
    """A running process so that it can be known again, whoever gets its number later."""
    return {"pid": pid, "start": _start_time(pid)}


def is_alive(identity: Optional[Dict[str, Any]], boot: str) -> bool:
    """That very process runs now. A zombie has ended."""
    if not identity or boot != boot_id():
        return False
    start = _start_time(int(identity["pid"]))
    return start is not None and start == identity["start"]


def send(identity: Optional[Dict[str, Any]], boot: str, number: int, group: bool = False) -> bool:
    """Signal that very process, or its group; whether it was still there."""
    if identity is None or not is_alive(identity, boot):
        return False
    try:
        (os.killpg if group else os.kill)(int(identity["pid"]), number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def below(*ancestors: int) -> Set[int]:
    """The processes that descend from one of these. Zombies are among them: what was still alive when
    the list was begun may be one when its turn comes, having left a child behind."""
    children = _children()
    found: Set[int] = set()
    waiting = list(ancestors)
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def first_catching(ancestor: int, number: int) -> List[int]:
    """Of a process and what descends from it, those that catch that signal, each the first of its
    branch: what a program forks has its handlers, too, and is not meant. None where nothing tells."""
    children = _children()
    found, waiting = [], [ancestor]
    while waiting:
        pid = waiting.pop()
        if _catches(pid, number):
            found.append(pid)
        else:
            waiting += children.get(pid, [])
    return found


def _catches(pid: int, number: int) -> bool:
    try:
        with open("/proc/{}/status".format(pid)) as file:
            masks = [line.split()[1] for line in file if line.startswith("SigCgt:")]
        return bool(masks) and bool(int(masks[0], 16) >> (number - 1) & 1)
    except (OSError, ValueError):
        return False


def with_variable(name: str, value: str) -> Set[int]:
    """The processes whose environment holds that variable, as far as we may look."""
    wanted = os.fsencode("{}={}".format(name, value))
    found = set()
    for pid in _numbers():
        try:
            with open("/proc/{}/environ".format(pid), "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.add(pid)
        except OSError:
            continue
    return found - {os.getpid()}


def values_of(name: str, but: bytes) -> Set[str]:
    """What a variable is in the processes whose environment we may read, but for those whose command
    line has `but` in it."""
    wanted = os.fsencode(name + "=")
    found = set()
    for pid in _numbers():
        try:
            with open("/proc/{}/environ".format(pid), "rb") as file:
                values = [word for word in file.read().split(b"\0") if word.startswith(wanted)]
            if values:
                with open("/proc/{}/cmdline".format(pid), "rb") as file:
                    if but not in file.read():
                        found.add(os.fsdecode(values[0][len(wanted) :]))
        except OSError:
            continue
    return found


def kill(pids: Set[int]) -> None:
    """SIGKILL each, and their groups: what forks and ends all the time is never caught by its number,
    but the system lets nobody fork out of a group that is being killed."""
    for group in {_group(pid) for pid in pids} - {None, os.getpgrp()}:
        _kill(os.killpg, group)
    for pid in pids:
        _kill(os.kill, pid)


def _kill(way: Callable[[int, int], None], number: Any) -> None:
    try:
        way(number, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _group(pid: int) -> Optional[int]:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _numbers() -> List[int]:
    if not HAS_PROC:
        return []
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _children() -> Dict[int, List[int]]:
    children: Dict[int, List[int]] = {}
    for pid, parent in _parents().items():
        children.setdefault(parent, []).append(pid)
    return children


def _parents() -> Dict[int, int]:
    if not HAS_PROC:
        return _parents_by_ps()
    parents = {}
    for pid in _numbers():
        fields = stat_of(pid)
        if fields is not None:
            parents[pid] = int(fields[1])
    return parents


def _parents_by_ps() -> Dict[int, int]:
    rows = [line.split() for line in _ps("-axo pid=,ppid=").splitlines()]
    return {int(row[0]): int(row[1]) for row in rows if len(row) == 2}


def _start_time(pid: int) -> Optional[str]:
    """When the process started, in whatever unit this system counts; None when it does not run."""
    if not HAS_PROC:
        words = _ps("-o state=,lstart= -p {:d}".format(pid)).split()
        return " ".join(words[1:]) if words and words[0] != "Z" else None
    fields = stat_of(pid)
    return fields[19] if fields is not None and fields[0] not in "ZX" else None


def _ps(options: str) -> str:
    """What ps prints. By os.popen, which loads `subprocess` only where there is no /proc."""
    with os.popen("ps " + options) as pipe:
        return pipe.read()


def stat_of(pid: int) -> Optional[List[str]]:
    """The fields of /proc/<pid>/stat behind the name, which may hold anything."""
    try:
        with open("/proc/{}/stat".format(pid), "rb") as file:
            return file.read().rpartition(b")")[2].decode("ascii").split()
    except (FileNotFoundError, ProcessLookupError):
        return None
