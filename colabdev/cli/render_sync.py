"""What a sync did, in words and in JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from colabdev.cli.output import document, line, printable
from colabdev.core.sizes import format_size

if TYPE_CHECKING:
    from colabdev.models import Explanation
    from colabdev.services.sync_report import SyncReport

_ARROWS = {True: "<-", False: "->"}
"""Here, and there."""


def synced(report: SyncReport, *, as_json: bool) -> None:
    """What a sync did, or would do."""
    if as_json:
        document(to_json(report))
        return
    line(_summary(report))
    details(report)


def details(report: SyncReport) -> None:
    """What a person should know of beside the summary."""
    if report.dry_run:
        for action in report.actions:
            size = f", {format_size(action.content_bytes)}" if action.content_bytes else ""
            arrow = _ARROWS[action.here]
            line(f"  {arrow} {action.op:<7}  {printable(action.path)}  ({action.reason}{size})")
    for conflict in report.conflicts:
        line(
            f"  conflict: {printable(conflict.path)}: "
            f"here {conflict.local}, on the runtime {conflict.remote}; both are kept"
        )
    if report.conflicts:
        line("  next: colabdev sync --prefer local takes yours, --prefer remote the others")
    for path, more, reason in _alike(report.problems):
        line(f"  not synced: {printable(path)}{more}: {printable(reason)}")
    if report.guard:
        line(f"  would halt: {report.guard}; --force goes on")


def _alike(problems: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """The problems, as one where those of one folder have one reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for path, reason in problems:
        groups.setdefault((path.rpartition("/")[0], reason), []).append(path)
    for (_, reason), paths in groups.items():
        more = f" and {len(paths) - 1} more beside it" if len(paths) > 1 else ""
        yield paths[0], more, reason


def explained(explanation: Explanation, *, as_json: bool) -> None:
    """Whether a path is synced, and why."""
    if as_json:
        document(
            {
                "path": explanation.path,
                "synced": explanation.synced,
                "reason": explanation.reason,
            }
        )
        return
    word = {"yes": "synced", "no": "not synced", "comes": "comes here"}[explanation.synced]
    line(f"{printable(explanation.path)}: {word}: {printable(explanation.reason)}")


def _summary(report: SyncReport) -> str:
    counted = Counter(action.reason.partition(";")[0] for action in report.actions)
    reasons = ", ".join(f"{count} {reason}" for reason, count in counted.items())
    would = "would be " if report.dry_run else ""
    return (
        f"{report.runtime}: {len(report.sent)} {would}sent ({format_size(report.sent_bytes)}), "
        f"{len(report.received)} {would}received ({format_size(report.received_bytes)}), "
        f"{report.deleted} {would}deleted, {report.unchanged} unchanged in {report.seconds:.2f} s"
        + (f": {printable(reasons)}" if reasons else "")
    )


def to_json(report: SyncReport) -> dict[str, Any]:
    """A sync as the JSON contract has it."""
    problems = [{"path": path, "reason": reason} for path, reason in report.problems]
    if report.guard:
        problems.append({"path": ".", "reason": f"would halt: {report.guard}"})
    return {
        "sent": {"files": len(report.sent), "bytes": report.sent_bytes},
        "received": {"files": len(report.received), "bytes": report.received_bytes},
        "deleted": report.deleted,
        "unchanged": report.unchanged,
        "conflicts": [
            {"path": conflict.path, "local": conflict.local, "remote": conflict.remote}
            for conflict in report.conflicts
        ],
        "problems": problems,
        "actions": [
            {
                "op": action.op,
                "path": action.path,
                "reason": action.reason,
                "bytes": action.content_bytes,
            }
            for action in report.actions
        ],
        "wire_bytes": report.wire_bytes,
    }
