"""Writes down what a job takes of its machine, beside its supervisor: what hangs here, a GPU's driver
above all, hangs nobody else.

`python3 -I -S <agent> sample <job directory>`, started by the supervisor. A line of
`metrics.jsonl` every ten seconds, or more rarely where looking costs more: it takes at most half a
percent of a core by its own measure. It ends with the job. It also looks which step the job is at.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any, Callable, Dict, List, Set

from . import gpus, jobdir, processes
from .jobdir import JobFiles
from .step_watch import StepWatch

_FIRST_S = 2.0
_INTERVAL_S = 10.0
_MOST_OF_A_CORE = 0.005

Row = Dict[str, Any]


def main(arguments: List[str]) -> int:
    """Sample until the job has ended, or its processes have."""
    files = JobFiles(arguments[0])
    pid, spec = jobdir.read_document(files.pid), jobdir.read_document(files.spec)
    if pid is None or spec is None:
        return 1
    sampler = Sampler(pid, str(spec["workdir"]), gpus.find_gpus())
    watch = StepWatch(files, spec)
    delay_s = _FIRST_S
    while True:
        time.sleep(delay_s)
        if os.path.exists(files.status) or not sampler.has_job():
            return 0
        begun = _spent_s()
        with suppress(OSError):
            watch.look()
        with suppress(OSError):  # On a full disk this row is missing.
            jobdir.append_row(files.metrics, sampler.sample())
        delay_s = max(_INTERVAL_S, (_spent_s() - begun) / _MOST_OF_A_CORE)


class Sampler:
    """One job's processes, and the machine below them."""

    def __init__(self, pid: Row, workdir: str, read_gpus: Callable[[], gpus.Reading]) -> None:
        self._pid = pid
        self._workdir = workdir
        self._read_gpus = read_gpus
        self._looked = time.monotonic()
        self._ticks = self._usage()[0]

    def has_job(self) -> bool:
        """Whether its supervisor or its command runs."""
        boot = self._pid["boot_id"]
        return any(processes.is_alive(self._pid[who], boot) for who in ("supervisor", "command"))

    def sample(self) -> Row:
        """A row as of now; what this system does not tell is null.

        `cpu_percent` counts a whole core as 100, since the row before; `memory_bytes` is what the
        job's processes have in memory, what two of them share counted for each.
        """
        now = time.monotonic()
        ticks, memory_bytes = self._usage()
        cpu_percent = None
        if ticks is not None and self._ticks is not None:
            seconds = max(ticks - self._ticks, 0) / os.sysconf("SC_CLK_TCK")
            cpu_percent = round(100 * seconds / max(now - self._looked, 0.001), 1)
        self._looked, self._ticks = now, ticks
        disk = os.statvfs(self._workdir)
        machine = _machine_memory()
        return {
            "time": time.time(),
            "cpu_percent": cpu_percent,
            "memory_bytes": memory_bytes,
            "machine_memory_available_bytes": machine.get("MemAvailable"),
            "machine_memory_bytes": machine.get("MemTotal"),
            "disk_free_bytes": disk.f_bavail * disk.f_frsize,
            "disk_bytes": disk.f_blocks * disk.f_frsize,
            "gpus": self._read_gpus(),
        }

    def _usage(self) -> Any:
        """Clock ticks so far and bytes in memory of all of the job; None without /proc."""
        if not processes.HAS_PROC:
            return None, None
        supervisor = int(self._pid["supervisor"]["pid"])
        command = int(self._pid["command"]["pid"])
        ticks = pages = 0
        for pid in self._of_job(supervisor, command):
            fields = processes.stat_of(pid)
            if fields is None:
                continue
            # What has ended counts for whoever waited for it: the supervisor, too, for orphans.
            counted = fields[13:15] if pid == supervisor else fields[11:15]
            ticks += sum(int(field) for field in counted)
            pages += 0 if pid == supervisor else int(fields[21])
        return ticks, pages * os.sysconf("SC_PAGE_SIZE")

    def _of_job(self, supervisor: int, command: int) -> Set[int]:
        found = {supervisor, command} | processes.below(supervisor, command)
        return found - {os.getpid()}


def _machine_memory() -> Dict[str, int]:
    """`MemTotal` and the others of /proc/meminfo, in bytes."""
    found = {}
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                words = line.replace(":", " ").split()
                if len(words) == 3 and words[2] == "kB":
                    found[words[0]] = int(words[1]) * 1024
    except (OSError, ValueError):
        return {}
    return found


def _spent_s() -> float:
    """What we and the programs that we ran took of a core so far."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
