"""How benches measure and how a measurement is shown. Nothing here knows what is measured."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

Round = Callable[[], float | None]
"""Does the work once. It is timed from outside, unless it returns a measurement of its own."""


def alternate(rows: Mapping[str, Round], rounds: int) -> dict[str, list[float]]:
    """Measure every label in turn, A B A B …, after one warm-up each that does not count.

    Taking turns is what makes the ratio mean something on a machine that others use too: what slows
    one label down for a while slows the other down as well.
    """
    for work in rows.values():
        work()
    results: dict[str, list[float]] = {label: [] for label in rows}
    for _ in range(rounds):
        for label, work in rows.items():
            results[label].append(_measured(work))
    return results


def _measured(work: Round) -> float:
    begun = time.perf_counter()
    own = work()
    return time.perf_counter() - begun if own is None else own


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: `ours[i]` and `beside[i]` were measured in the same round."""

    title: str
    ours_label: str
    beside_label: str
    ours: Sequence[float]
    beside: Sequence[float]
    target: float | None = None
    """The ratio that must not be exceeded."""
    unit: str = "s"
    wire_bytes: int | None = None
    """Bytes that our side put on the wire in one round, both directions, where counted."""
    beside_wire_bytes: int | None = None

    def __post_init__(self) -> None:
        if not self.ours or len(self.ours) != len(self.beside):
            raise ValueError(f"{self.title}: {len(self.ours)} beside {len(self.beside)} rounds")

    @property
    def ratio_of_medians(self) -> float:
        """The typical cost of ours, as a multiple of the typical cost beside it."""
        return median(self.ours) / median(self.beside)

    @property
    def median_of_ratios(self) -> float:
        """The typical ratio within a round; robust when the whole machine drifts."""
        return median(a / b for a, b in zip(self.ours, self.beside, strict=True))

    @property
    def verdict(self) -> str:
        """`meets` only when both ratios do; empty without a target."""
        if self.target is None:
            return ""
        worse = max(self.ratio_of_medians, self.median_of_ratios)
        return "meets" if worse <= self.target else "misses"


@dataclass(frozen=True, slots=True)
class NotRun:
    """What this computer cannot measure; it is told beside the results."""

    title: str
    reason: str


def measured(rows: Sequence[Row | NotRun]) -> list[Row]:
    return [row for row in rows if isinstance(row, Row)]


def not_run(rows: Sequence[Row | NotRun]) -> list[NotRun]:
    return [row for row in rows if isinstance(row, NotRun)]


def against_limit(
    title: str, label: str, samples: Sequence[float], limit: float, unit: str = "s"
) -> Row:
    """A row that is held against a fixed limit, not beside another program."""
    return Row(title, label, "limit", samples, [limit] * len(samples), 1.0, unit)


def peak_rss_mb(pid: int) -> float:
    """The most memory that a living process ever had resident, in MB of 1024 * 1024 bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise ProcessLookupError(f"process {pid} has ended; its peak memory is not known any more")
    return int(found[1]) / 1024


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def to_json(rows: Sequence[Row | NotRun]) -> dict[str, Any]:
    """The document of `scripts/bench --json`."""
    return {
        "schema": 1,
        "machine": machine(),
        "rows": [_row_to_json(row) for row in measured(rows)],
        "not_run": [{"title": row.title, "reason": row.reason} for row in not_run(rows)],
    }


def _row_to_json(row: Row) -> dict[str, Any]:
    return {
        "title": row.title,
        "unit": row.unit,
        "rounds": len(row.ours),
        "ours": _side_to_json(row.ours_label, row.ours, row.wire_bytes),
        "beside": _side_to_json(row.beside_label, row.beside, row.beside_wire_bytes),
        "ratio_of_medians": round(row.ratio_of_medians, 4),
        "median_of_ratios": round(row.median_of_ratios, 4),
        "target": row.target,
        "verdict": row.verdict or None,
    }


def _side_to_json(label: str, values: Sequence[float], wire_bytes: int | None) -> dict[str, Any]:
    return {
        "label": label,
        "median": median(values),
        "min": min(values),
        "max": max(values),
        "wire_bytes": wire_bytes,
    }


HEADINGS = ("", "median", "min … max", "wire bytes", "ratio", "pairwise", "target", "", "rounds")


def render_table(rows: Sequence[Row | NotRun]) -> str:
    """The rows as text: two lines each, ours with the ratios, and below it what it is beside."""
    cells: list[Sequence[str]] = [HEADINGS]
    for row in measured(rows):
        target = "" if row.target is None else f"≤ {row.target:g}"
        ratios = (f"{row.ratio_of_medians:.2f}", f"{row.median_of_ratios:.2f}", target)
        ours = _side_cells(row.ours, row.unit, row.wire_bytes)
        beside = _side_cells(row.beside, row.unit, row.beside_wire_bytes)
        name = f"{row.title}: {row.ours_label}"
        cells.append((name, *ours, *ratios, row.verdict, str(len(row.ours))))
        cells.append((f"  beside {row.beside_label}", *beside, "", "", "", "", ""))
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    lines = [_aligned(line, widths) for line in cells]
    lines += [f"not run: {row.title} ({row.reason})" for row in not_run(rows)]
    return "\n".join(lines) + f"\n\n{_machine_line()}"


def render_markdown(rows: Sequence[Row | NotRun]) -> str:
    """The rows as the README's table has them; a row that differs only in what it is beside leaves the
    first cells empty."""
    lines = []
    before = ("", "")
    for row in measured(rows):
        first = (row.title, _in_short(row.ours, row.unit, row.wire_bytes))
        beside = f"{row.beside_label}: {_in_short(row.beside, row.unit, row.beside_wire_bytes)}"
        target = "" if row.target is None else f"≤ {row.target:g}"
        missed = ", missed" if row.verdict == "misses" else ""
        shown = ("", "") if row.title == before[0] else first
        cells = [*shown, beside, f"{row.ratio_of_medians:.2f}", target + missed]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        before = first
    lines += [f"| {row.title} | not run: {row.reason} | | | |" for row in not_run(rows)]
    return "\n".join(lines) + f"\n\n{_machine_line()}"


def _in_short(values: Sequence[float], unit: str, wire_bytes: int | None) -> str:
    wire = "" if wire_bytes is None else f", {_size(wire_bytes)}"
    return _amount(median(values), unit) + wire


def _size(count: int) -> str:
    if count < 1_000_000:
        return f"{count / 1000:.1f} kB" if count < 100_000 else f"{count / 1000:.0f} kB"
    return f"{count / 1_000_000:.2f} MB"


def _side_cells(values: Sequence[float], unit: str, wire_bytes: int | None) -> tuple[str, str, str]:
    spread = f"{_amount(min(values), unit)} … {_amount(max(values), unit)}"
    return _amount(median(values), unit), spread, "" if wire_bytes is None else f"{wire_bytes:,}"


def _amount(value: float, unit: str) -> str:
    if unit == "s" and value < 1:
        return f"{value * 1000:.1f} ms"
    return f"{value:.2f} {unit}"


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
    return "  ".join([line[0].ljust(widths[0]), *numbers]).rstrip()


def _machine_line() -> str:
    facts = machine()
    return f"{facts['cpu_count']} CPUs, Python {facts['python']}, {facts['platform']}"
