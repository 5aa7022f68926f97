"""The only module that prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from colabdev.core.times import format_age, format_time

if TYPE_CHECKING:
    from colabdev.errors import ColabdevError
    from colabdev.models import RuntimeRecord, RuntimeStatus
    from colabdev.services.doctor import Check
    from colabdev.services.runtimes import Listing, Release

SCHEMA = 1


def document(content: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    print(json.dumps({"schema": SCHEMA, **content}, indent=2))


def line(text: str) -> None:
    """A result for people."""
    print(text)


def progress(step: str) -> None:
    """A step that begins."""
    _say(f"  {step}")


def interrupted() -> None:
    """Ctrl-C: the terminal has echoed ^C in the middle of a line."""
    _say("\ninterrupted; typing the same command again goes on")


def error(exc: ColabdevError, *, as_json: bool) -> None:
    """What failed and what to do next."""
    if as_json:
        print(json.dumps({"error": exc.to_json()}, indent=2))
        return
    _say(f"colabdev: {exc.message}")
    if exc.hint:
        _say(f"  next: {exc.hint}")


def connected(status: RuntimeStatus, ssh_command: str, *, as_json: bool) -> None:
    """The runtime that `connect` brought up, and how to use it."""
    if as_json:
        document({"runtimes": [runtime_json(status)]})
        return
    record = status.record
    assert record.machine is not None, "it is ready"
    line(f"{record.name} is ready")
    rows = [
        ("shell", f"colabdev ssh {record.name}"),
        ("or", ssh_command),
        ("work dir", record.workdir or "none: this folder is no project"),
        ("drive", record.machine.drive_dir or "not mounted"),
        ("gpu", record.machine.accelerator or "none"),
        ("tunnel", _tunnel_line(record)),
        ("give back", f"colabdev down {record.name}"),
    ]
    for label, value in rows:
        line(f"  {label:<9}  {value}")


def listing(runtimes: Listing, *, as_json: bool) -> None:
    """All runtimes; state files that cannot be read follow on stderr, or in the document."""
    if as_json:
        content: dict[str, Any] = {"runtimes": [runtime_json(item) for item in runtimes.runtimes]}
        if runtimes.unreadable:
            content["error"] = runtimes.unreadable[0].to_json()
        document(content)
        return
    if runtimes.runtimes:
        _table(
            ("NAME", "PROVIDER", "STATE", "UP", "GPU", "WORK DIR"),
            [_row(status) for status in runtimes.runtimes],
        )
        for status in runtimes.runtimes:
            if status.detail:
                _say(f"{status.record.name}: {status.detail}")
    elif not runtimes.unreadable:
        line("no runtime is up; colabdev connect starts one")
    for unreadable in runtimes.unreadable:
        error(unreadable, as_json=False)


def released(releases: Sequence[Release], *, as_json: bool) -> None:
    """What `down` gave back, and what it could not."""
    done = [release.name for release in releases if release.error is None]
    failed = [release for release in releases if release.error is not None]
    if as_json:
        content: dict[str, Any] = {"released": done}
        if failed and failed[0].error is not None:
            content["error"] = failed[0].error.to_json()
        document(content)
        return
    for name in done:
        line(f"{name} is released")
    for release in failed:
        if release.error is not None:
            error(release.error, as_json=False)
    if not releases:
        line("no runtime is up; nothing to release")


def would_release(names: Sequence[str], *, as_json: bool) -> None:
    """What `down` would do."""
    if as_json:
        document({"would_release": list(names)})
        return
    for name in names:
        line(f"would release {name}: its disk is deleted, Drive stays")


def repaired(name: str, record: RuntimeRecord | None, aside: str, *, as_json: bool) -> None:
    """What `doctor --repair` found."""
    if as_json:
        document({"name": name, "rebuilt": record is not None, "set_aside": aside or None})
    elif not aside:
        line(f"the state of {name} is readable; nothing to repair")
    elif record is None:
        line(f"no provider knows {name}; its unreadable state file is now {aside}")
    else:
        line(f"{name} is known again; its unreadable state file is now {aside}")
        line(f"  next: colabdev connect {name} --provider {record.provider}")


def checks(results: Iterable[Check], *, as_json: bool) -> None:
    """What the doctor saw."""
    if as_json:
        rows = [
            {"subject": check.subject, "ok": check.ok, "saw": check.saw, "advice": check.advice}
            for check in results
        ]
        document({"checks": rows})
        return
    for check in results:
        line(f"{'ok ' if check.ok else 'BAD'}  {check.subject}: {check.saw}")
        if not check.ok and check.advice:
            line(f"       next: {check.advice}")


def runtime_json(status: RuntimeStatus) -> dict[str, Any]:
    """A runtime as the JSON contract has it."""
    record = status.record
    machine = record.machine
    return {
        "name": record.name,
        "provider": record.provider,
        "state": status.state.value,
        "accelerator": machine.accelerator if machine else None,
        "workdir": record.workdir,
        "drive_dir": machine.drive_dir if machine else None,
        "ssh": {"alias": record.name, "host": machine.ssh.host, "port": machine.ssh.port}
        if machine
        else None,
        "since": format_time(machine.since if machine else record.created),
        "durable": None,
    }


def _row(status: RuntimeStatus) -> tuple[str, ...]:
    record = status.record
    machine = record.machine
    since = machine.since if machine else record.created
    return (
        record.name,
        record.provider,
        status.state.value,
        format_age((datetime.now(UTC) - since).total_seconds()),
        (machine.accelerator if machine else None) or "none",
        record.workdir or "-",
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        line("  ".join(cells).rstrip())


def _tunnel_line(record: RuntimeRecord) -> str:
    return f"direct: a {record.provider} runtime needs none, and Google's terms do not apply to it"


def _say(text: str) -> None:
    print(text, file=sys.stderr)
