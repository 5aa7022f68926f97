"""Groups of processes that really run out of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.waiting import wait_until

_PLACES = (
    (Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")),
    (Path("/sys/fs/cgroup"), ("memory.max",)),
)


@contextmanager
def limited_memory(*, limit_bytes: int) -> Iterator[Path]:
    """A group whose processes may have that much; a number written to the file yielded joins it. Needs
    root; the test is skipped without, never in CI."""
    reasons = []
    for parent, limits in _PLACES:
        group = parent / f"colabdev-test-{uuid4().hex[:8]}"
        try:
            group.mkdir()
            for limit in limits:
                (group / limit).write_text(str(limit_bytes))
        except OSError as exc:
            reasons.append(str(exc))
            if group.exists():
                group.rmdir()
            continue
        break
    else:
        pytest.skip(f"cannot limit memory: {reasons}")
    members = group / "cgroup.procs"
    try:
        yield members
    finally:
        wait_until(lambda: not members.read_text(), message="nobody is left in it")
        group.rmdir()
