"""Which runtime a command means."""

from __future__ import annotations

from collections.abc import Sequence

from colabdev.errors import RuntimeNotFound, UsageError, nearest
from colabdev.models import RuntimeRecord

_CONNECT_HINT = "colabdev connect --provider local"


def choose_runtime(
    records: Sequence[RuntimeRecord],
    *,
    named: str | None,
    project_path: str | None,
    naming: str = "-r {}",
) -> RuntimeRecord:
    """The runtime `named` (by `-r` or $COLABDEV_NAME), else the one this project last connected to,
    else the only one there is. `naming`: how the command takes a name."""
    if named is not None:
        return _by_name(records, named)
    if not records:
        raise RuntimeNotFound("no runtime is up", hint=_CONNECT_HINT)
    last = last_of_project(records, project_path)
    if last is not None:
        return last
    if len(records) == 1:
        return records[0]
    names = ", ".join(record.name for record in records)
    raise UsageError(
        f"several runtimes are up ({names}) and none was named",
        hint=f"add the name, for example {naming.format(records[0].name)}",
    )


def _by_name(records: Sequence[RuntimeRecord], named: str) -> RuntimeRecord:
    for record in records:
        if record.name == named:
            return record
    meant = nearest(named, [record.name for record in records])
    raise RuntimeNotFound(
        f"no runtime is called {named!r}" + (f"; did you mean {meant!r}?" if meant else ""),
        hint="colabdev status lists them" if records else _CONNECT_HINT,
    )


def last_of_project(
    records: Sequence[RuntimeRecord], project_path: str | None
) -> RuntimeRecord | None:
    """The runtime that a project connected to last; None when it did to none of them."""
    connected = [
        (link.connected, record)
        for record in records
        for link in record.projects
        if link.path == project_path
    ]
    return max(connected, key=lambda pair: pair[0])[1] if connected else None
