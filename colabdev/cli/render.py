"""Results and complaints in words and in JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from colabdev.cli.output import document, error, line, printable, say
from colabdev.core.checkpoints import Durable, describe_durable
from colabdev.core.hand_overs import Fate
from colabdev.core.outlook import Outlook, describe_outlook
from colabdev.core.quoting import line_to_type
from colabdev.core.times import format_age, format_time
from colabdev.core.usage import describe_room, describe_usage

if TYPE_CHECKING:
    from colabdev.models import RuntimeStatus
    from colabdev.services.bug_report import WrittenReport
    from colabdev.services.checks import Check
    from colabdev.services.glances import Glance
    from colabdev.services.projects import NewProject
    from colabdev.services.releases import Release
    from colabdev.services.repairs import Repair
    from colabdev.services.runtimes import Listing


def connected(
    status: RuntimeStatus, ssh_command: Sequence[str], tunnel_line: str, *, as_json: bool
) -> None:
    """The runtime that `connect` brought up, and how to use it. `tunnel_line` says how it is reached,
    why, and what Google's terms say of that."""
    if as_json:
        document({"runtimes": [runtime_json(status)]})
        return
    record = status.record
    assert record.machine is not None, "it is ready"
    line(f"{record.name} is ready")
    rows = [
        ("shell", f"colabdev ssh {record.name}"),
        ("or", _to_type(*ssh_command)),
        ("work dir", record.workdir or "none: this folder is no project"),
        ("drive", record.machine.drive_dir or "not mounted"),
        ("gpu", record.machine.accelerator or "none"),
        ("tunnel", tunnel_line),
        ("give back", f"colabdev down {record.name}"),
    ]
    for label, value in rows:
        line(f"  {label:<9}  {value}")


def initialized(project: NewProject, *, as_json: bool) -> None:
    """The project that `init` made."""
    if as_json:
        files = list(project.files)
        document({"path": str(project.path), "template": project.template, "files": files})
        return
    line(f"{project.path.name} is ready: {', '.join(project.files)}")
    line(f"  next: {_to_type('cd', str(project.path))} && colabdev connect --provider local")


def listing(
    runtimes: Listing,
    seen: Mapping[str, Glance],
    outlooks: Mapping[str, Outlook] = MappingProxyType({}),
    fates: Mapping[str, Sequence[Fate]] = MappingProxyType({}),
    *,
    as_json: bool,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """All runtimes, and what was seen in them; state files that cannot be read follow on stderr, or in
    the document, where `more` stands as well."""
    if as_json:
        names = [(item, item.record.name) for item in runtimes.runtimes]
        rows = [
            runtime_json(item, seen.get(name), outlooks.get(name), fates.get(name))
            for item, name in names
        ]
        content: dict[str, Any] = {"runtimes": rows, **more}
        if runtimes.unreadable:
            content["error"] = runtimes.unreadable[0].to_json()
        document(content)
        return
    if runtimes.runtimes:
        table(
            ("NAME", "PROVIDER", "STATE", "UP", "GPU", "WORK DIR"),
            [_row(status) for status in runtimes.runtimes],
        )
        for status in runtimes.runtimes:
            name = status.record.name
            # While a job is brought to a new machine there is nothing to type.
            if status.detail and not any(fate.goes_on for fate in fates.get(name, ())):
                say(f"{name}: {status.detail}")
            for sentence in _sentences(seen.get(name), outlooks.get(name)):
                line(printable(f"{name}: {sentence}"))
            for fate in fates.get(name, ()):
                line(printable(f"{name}: {fate.says}"))
    elif not runtimes.unreadable:
        line("no runtime is up; colabdev connect --provider local starts one on this computer")
    for unreadable in runtimes.unreadable:
        error(unreadable, as_json=False)


def released(releases: Sequence[Release], *, as_json: bool) -> None:
    """What `down` gave back, and what it could not."""
    done = {release.name: release.stays for release in releases if release.error is None}
    failed = [release for release in releases if release.error is not None]
    running = [job for release in releases for job in release.running]
    if as_json:
        content: dict[str, Any] = {"released": list(done)}
        if running:
            content["running"] = running
        if failed and failed[0].error is not None:
            content["error"] = failed[0].error.to_json()
        document(content)
        return
    for name, stays in done.items():
        line(f"{name} is released" + (f"; {stays}" if stays else ""))
    if running:
        say(f"may run on there, because nobody could be asked to end them: {', '.join(running)}")
    for release in failed:
        if release.error is not None:
            error(release.error, as_json=False)
    if not releases:
        line("no runtime is up; nothing to release")


def killed(name: str, was_alive: bool, going_on: Sequence[str], *, as_json: bool) -> None:
    """The local runtime that was let die, and which of its jobs go on on another one."""
    if as_json:
        document({"name": name, "killed": was_alive})
        return
    line(
        f"{name} is dead; its disk is gone, Drive stays" if was_alive else f"{name} is dead already"
    )
    if going_on:
        line(f"  next: colabdev logs -f; on a new one it continues: {', '.join(going_on)}")
        return
    line(f"  next: colabdev connect {name} starts a new one; colabdev down {name} forgets it")


def would_release(releases: Sequence[Release], *, as_json: bool) -> None:
    """What `down` would do."""
    if as_json:
        document({"would_release": [release.name for release in releases]})
        return
    for release in releases:
        line(f"would release {release.name}: {_would_become(release)}")


def _would_become(release: Release) -> str:
    if release.error is not None:
        return release.error.message
    return release.stays or "its disk is deleted, Drive stays"


def repaired(name: str, repair: Repair, *, as_json: bool) -> None:
    """What `doctor --repair` found."""
    record, aside = repair.record, repair.aside
    if as_json:
        rebuilt = repair.needed and record is not None
        document({"name": name, "rebuilt": rebuilt, "set_aside": aside or None})
    elif not repair.needed:
        line(f"the state of {name} is readable; nothing to repair")
    else:
        kept = f"; its unreadable state file is now {aside}" if aside else ""
        if record is None:
            line(f"no provider knows {name}{kept}")
        else:
            line(f"{name} is known again{kept}")
            line(f"  next: colabdev connect {name}")


def checks(results: Iterable[Check], *, as_json: bool) -> None:
    """What the doctor saw."""
    if as_json:
        rows = [
            {
                "subject": check.subject,
                "ok": check.ok,
                "level": check.level.value,
                "saw": check.saw,
                "advice": check.advice,
            }
            for check in results
        ]
        document({"checks": rows})
        return
    labels = {"ok": "ok  ", "warn": "warn", "bad": "BAD "}
    for check in results:
        line(f"{labels[check.level.value]}  {check.subject}: {printable(check.saw)}")
        if check.advice:
            line(f"        next: {printable(check.advice)}")


def reported(report: WrittenReport, *, as_json: bool) -> None:
    """The archive that was written for a bug report."""
    if as_json:
        document({"bundle": str(report.path), "files": list(report.names)})
        return
    line(f"{report.path} holds, without secrets and names:")
    for name in report.names:
        line(f"  {printable(name)}")
    line("nothing was sent anywhere; look into it, then attach it to your report")


def _sentences(glance: Glance | None, outlook: Outlook | None) -> Iterator[str]:
    if glance is None:
        return
    if glance.running:
        jobs = "1 job runs" if glance.running == 1 else f"{glance.running} jobs run"
        row = glance.metrics or {}
        # What one of several takes says nothing of the others.
        takes = describe_usage(row) if glance.running == 1 else ""
        yield "; ".join(filter(None, (jobs, takes, describe_room(row))))
    if outlook is not None:
        whose = "" if glance.running == 1 else f"{outlook.job}: "
        yield whose + describe_outlook(outlook, datetime.now(UTC))
    if glance.durable is not None:
        yield describe_durable(glance.durable)
    if glance.stays:
        yield glance.stays
    for link, saw, _ in glance.mirrors:
        yield f"Drive, {link.workdir}: {saw}"


def runtime_json(
    status: RuntimeStatus,
    glance: Glance | None = None,
    outlook: Outlook | None = None,
    fates: Sequence[Fate] | None = None,
) -> dict[str, Any]:
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
        "ssh": {"alias": record.name, "host": record.ssh.host, "port": record.ssh.port}
        if record.ssh
        else None,
        "since": format_time(machine.since if machine else record.created),
        "durable": durable_json(glance.durable if glance else None),
        "forecast": outlook_json(outlook),
        "running_jobs": glance.running if glance else None,
        "metrics": glance.metrics if glance else None,
        "mirrors": [
            {"workdir": link.workdir, "saw": saw, "ok": is_well}
            for link, saw, is_well in glance.mirrors
        ]
        if glance
        else None,
        "lost_jobs": None
        if fates is None
        else [{"job": one.job, "continues": one.goes_on, "says": one.says} for one in fates],
    }


def durable_json(durable: Durable | None) -> dict[str, Any] | None:
    """How safe the newest checkpoint of a runtime is, as the JSON contract has it."""
    if durable is None:
        return None
    return {
        "job": durable.job,
        "step": durable.step,
        "level": durable.level,
        "safe": durable.is_safe,
        "age_s": round(durable.age_s, 1),
        "at_risk_steps": durable.at_risk_steps,
        "at_risk_s": None if durable.at_risk_s is None else round(durable.at_risk_s, 1),
    }


def outlook_json(outlook: Outlook | None) -> dict[str, Any] | None:
    """What is ahead of a job, as the JSON contract has it."""
    if outlook is None:
        return None
    return {
        "job": outlook.job,
        "step": outlook.step,
        "total_steps": outlook.total_steps,
        "done": format_time(outlook.done),
        "done_low": format_time(outlook.low),
        "done_high": format_time(outlook.high),
        "limit": None if outlook.limit is None else format_time(outlook.limit),
        "hand_overs": outlook.hand_overs if outlook.gets_there else None,
        "hand_overs_left": outlook.hand_overs_left,
        "units": None if outlook.units is None else round(outlook.units, 2),
        "balance": outlook.balance,
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


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Columns below their heads."""
    shown = [head, *(tuple(printable(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(head))]
    for row in shown:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        line("  ".join(cells).rstrip())


def _to_type(*argv: str) -> str:
    return line_to_type(argv, windows=sys.platform == "win32")
