"""The peak memory of both ends of a sync, beside that of others."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Row, against_limit, peak_rss_mb

if TYPE_CHECKING:
    from benchmarks.sync import Sides

HERE_LIMIT_MB = 120
THERE_LIMIT_MB = 40
_POLL_S = 0.03


def memory_rows(sides: Sides, files: int) -> list[Row]:
    """The first sync, and one that has nothing to do."""
    rows = []
    for work in ("first sync", "nothing changed"):
        peaks = {"colabdev": _peaks(sides, "colabdev", sides.ours)}
        for label, program in sides.beside.items():
            name = label.split(" ", 1)[0].rstrip(",")
            peaks[name] = _peaks(sides, name, program)
        ours = peaks.pop("colabdev")
        for end, where, limit in ((0, "here", HERE_LIMIT_MB), (1, "there", THERE_LIMIT_MB)):
            title = f"peak memory {where}, {work}, {files:,} files"
            rows.append(against_limit(title, "colabdev sync", [ours[end]], limit, "MB"))
            rows += [
                Row(title, "colabdev sync", name, [ours[end]], [theirs[end]], unit="MB")
                for name, theirs in peaks.items()
            ]
    return rows


def _peaks(sides: Sides, name: str, work: Callable[[], None]) -> tuple[float, float]:
    """The peaks of the largest process here and there while `work` runs, in MB."""
    state = os.fsencode(sides.house.places.state_dir)
    peaks: dict[bool, float] = {}
    done = threading.Event()

    def look() -> None:
        while not done.wait(_POLL_S):
            for pid, argv in _processes():
                is_server = _is_server(name, argv)
                if is_server or _is_client(name, argv):
                    with suppress(OSError):
                        if state in Path(f"/proc/{pid}/environ").read_bytes() or not is_server:
                            peaks[is_server] = max(peaks.get(is_server, 0), peak_rss_mb(pid))

    looker = threading.Thread(target=look)
    looker.start()
    try:
        work()
    finally:
        done.set()
        looker.join()
    assert len(peaks) == 2, f"not both ends of {name} were seen"
    return peaks[False], peaks[True]


def _is_server(name: str, argv: list[bytes]) -> bool:
    if name == "colabdev":
        return any(b"/colabdev/agent-" in word for word in argv) and b"mirror" not in argv
    return _program(argv) == name and bool({b"--server", b"-server"}.intersection(argv))


def _is_client(name: str, argv: list[bytes]) -> bool:
    if name == "colabdev":
        return b"sync" in argv and any(word.endswith(b"/colabdev") for word in argv)
    return _program(argv) == name and not _is_server(name, argv)


def _program(argv: list[bytes]) -> str:
    return os.path.basename(os.fsdecode(argv[0]))


def _processes() -> Iterator[tuple[int, list[bytes]]]:
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield int(directory.name), (directory / "cmdline").read_bytes().split(b"\0")
