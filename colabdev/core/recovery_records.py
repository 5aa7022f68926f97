"""What is remembered of jobs that may go on elsewhere, as JSON; each `parse_` gives back what its
`format_` wrote, and raises ValueError, KeyError or TypeError for anything else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from colabdev.core.json_values import (
    count,
    listing,
    mapping,
    optional_amount,
    optional_count,
    optional_number,
    optional_text,
    text,
    texts,
    whole_number,
)
from colabdev.core.records import format_use, parse_use
from colabdev.core.times import format_exact_time, parse_time
from colabdev.models import HardwareWish
from colabdev.models.orders import JobOrder, MachineWish
from colabdev.models.recovery import (
    AGREEMENTS,
    Consent,
    Continuation,
    PastAttempt,
    Resumed,
    Try,
)

SCHEMA = 1


def format_consent(consent: Consent | None) -> dict[str, Any] | None:
    """As `continues` of a job's record."""
    if consent is None:
        return None
    return {"times": consent.times, "max_units": consent.max_units, "agreed": consent.agreed}


def parse_consent(document: Any) -> Consent | None:
    """See `format_consent`."""
    if document is None:
        return None
    agreed = text(document["agreed"])
    if agreed not in AGREEMENTS:
        raise ValueError(f"nobody agrees by {agreed!r}")
    return Consent(count(document["times"]), optional_amount(document["max_units"]), agreed)


def format_past(past: Iterable[PastAttempt]) -> list[dict[str, Any]]:
    """As `past` of a job's record."""
    return [
        {
            "attempt": one.attempt,
            "request_id": one.request_id,
            "started": _format_moment(one.started),
            "log_bytes": one.log_bytes,
        }
        for one in past
    ]


def parse_past(rows: object) -> tuple[PastAttempt, ...]:
    """See `format_past`."""
    return tuple(
        PastAttempt(
            attempt=count(row["attempt"]),
            request_id=text(row["request_id"]),
            started=_parse_moment(row["started"]),
            log_bytes=count(row["log_bytes"]),
        )
        for row in listing(rows)
    )


def format_resumed(resumed: Resumed | None) -> dict[str, Any] | None:
    """As `resumed` of a job's record, and as `from` of a start."""
    return None if resumed is None else {"attempt": resumed.attempt, "step": resumed.step}


def parse_resumed(document: Any) -> Resumed | None:
    """See `format_resumed`."""
    if document is None:
        return None
    return Resumed(count(document["attempt"]), whole_number(document["step"]))


def format_order(order: JobOrder) -> str:
    """As `order.json`."""
    return _render(
        {
            "schema": SCHEMA,
            "arguments": order.arguments,
            "env": dict(order.env),
            "held": list(order.held),
            "resume": order.resume,
            "machine": _format_wish(order.machine),
            "project": {"path": order.project_path, "name": order.project_name},
            "taken_over": order.taken_over,
        }
    )


def parse_order(written: str) -> JobOrder:
    """See `format_order`."""
    document = _read(written)
    project = mapping(document["project"])
    order = JobOrder(
        arguments=mapping(document["arguments"]),
        env=texts(document["env"]),
        held=tuple(text(name) for name in listing(document["held"])),
        resume=optional_text(document["resume"]),
        machine=_parse_wish(mapping(document["machine"])),
        project_path=optional_text(project["path"]),
        project_name=optional_text(project["name"]),
        taken_over=document.get("taken_over") is True,  # Older ones do not say it.
    )
    mapping(order.arguments["spec"])
    return order


def format_continuation(going_on: Continuation) -> str:
    """As `recovery.json`."""
    return _render(
        {
            "schema": SCHEMA,
            "attempt": going_on.attempt,
            "token": going_on.token,
            "request_id": going_on.request_id,
            "step": going_on.step,
            "from": format_resumed(going_on.began_from),
            "path": going_on.path,
            "replaces": going_on.replaces,
            "balance": going_on.balance,
            "tries": [
                {
                    "time": format_exact_time(one.time),
                    "attempt": one.attempt,
                    "from": format_resumed(one.began_from),
                    "ran": one.ran,
                }
                for one in going_on.tries
            ],
            "failures": going_on.failures,
            "failures_there": going_on.failures_there,
            "user_awaited": _format_moment(going_on.user_awaited),
            "waits_until": _format_moment(going_on.waits_until),
            "why": going_on.why,
            "is_over": going_on.is_over,
        }
    )


def parse_continuation(written: str) -> Continuation:
    """See `format_continuation`."""
    document = _read(written)
    return Continuation(
        attempt=count(document["attempt"]),
        token=text(document["token"]),
        request_id=text(document["request_id"]),
        step=text(document["step"]),
        began_from=parse_resumed(document["from"]),
        path=text(document["path"]),
        replaces=text(document["replaces"]),
        balance=optional_number(document["balance"]),
        tries=tuple(
            Try(
                parse_time(row["time"]),
                count(row["attempt"]),
                parse_resumed(row["from"]),
                row["ran"] is True,
            )
            for row in listing(document["tries"])
        ),
        failures=count(document["failures"]),
        # Older ones say neither.
        failures_there=count(document.get("failures_there", 0)),
        user_awaited=_parse_moment(document.get("user_awaited")),
        waits_until=_parse_moment(document["waits_until"]),
        why=text(document["why"]),
        is_over=document["is_over"] is True,
    )


def format_safe(newest: Resumed) -> str:
    """As `safe.json`."""
    return _render({"schema": SCHEMA, **(format_resumed(newest) or {})})


def parse_safe(written: str) -> Resumed:
    """See `format_safe`."""
    document = _read(written)
    return Resumed(count(document["attempt"]), whole_number(document["step"]))


def _format_wish(wish: MachineWish) -> dict[str, Any]:
    hardware = wish.hardware
    return {
        "provider": wish.provider,
        "accelerators": list(hardware.accelerators),
        "high_memory": hardware.high_memory,
        "ttl_s": hardware.ttl_s,
        "max_units": hardware.max_units,
        "tunnel": format_use(wish.tunnel),
        "python": wish.python,
    }


def _parse_wish(document: Mapping[str, Any]) -> MachineWish:
    hardware = HardwareWish(
        accelerators=tuple(text(name) for name in listing(document["accelerators"])),
        high_memory=document["high_memory"] is True,
        ttl_s=optional_count(document["ttl_s"]),
        max_units=optional_amount(document["max_units"]),
    )
    return MachineWish(
        provider=text(document["provider"]),
        hardware=hardware,
        tunnel=parse_use(document["tunnel"]),
        python=optional_text(document["python"]),
    )


def _format_moment(moment: datetime | None) -> str | None:
    return None if moment is None else format_exact_time(moment)


def _parse_moment(written: object) -> datetime | None:
    return None if written is None else parse_time(text(written))


def _render(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"


def _read(written: str) -> Mapping[str, Any]:
    document = mapping(json.loads(written))
    if document.get("schema") != SCHEMA:
        raise ValueError(f"it has schema {document.get('schema')}")
    return document
