"""When a rented runtime is to be given back, and how one that has gone was to go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from colabdev.models import JobRecord, RuntimeRecord


def why_give_back(record: RuntimeRecord, jobs: Iterable[JobRecord], now: datetime) -> str:
    """Why the runtime is not wanted any more; "" while it is. `jobs` are all that are known here."""
    if not record.can_leave:
        return ""
    if is_ttl_over(record, now):
        return "its ttl is over"
    ours = [job for job in jobs if job.ours and _is_of(job, record)]
    if any(not job.state.is_end for job in ours):
        return ""
    last = [job.id for job in ours if job.gives_back and not _is_kept_since(record, job)]
    return f"{', '.join(last)} has ended" if last else ""


def is_ttl_over(record: RuntimeRecord, now: datetime) -> bool:
    """Whether the runtime was to be given back by now."""
    left_s = ttl_left_s(record, now)
    return left_s is not None and left_s <= 0


def how_it_went(record: RuntimeRecord, jobs: Iterable[JobRecord], now: datetime) -> str:
    """Of a runtime that has gone: what it was to give itself back for; "" if nothing says that it was.
    Nobody here saw it go."""
    if is_ttl_over(record, now):
        return "at the end of its ttl"
    last = [job.id for job in jobs if _is_of(job, record) and job.gives_back]
    return f"once {', '.join(last)} had ended" if last else ""


def lease_of(record: RuntimeRecord) -> Mapping[str, object]:
    """What the runtime must know to give itself back: what must outlive it, and where to."""
    return {
        "runtime": record.request_id,
        "drive_dir": record.machine.drive_dir if record.machine else None,
        "workdirs": [link.workdir for link in record.projects],
    }


def ttl_left_s(record: RuntimeRecord, now: datetime) -> float | None:
    """The seconds until it is to give itself back; None for never."""
    tunnel = record.machine.ssh.tunnel if record.machine else None
    if tunnel is None or not tunnel.gives_back:
        return None
    return (tunnel.keep_until - now).total_seconds()


def life_left_s(record: RuntimeRecord, now: datetime) -> float | None:
    """The seconds until its provider may take it; None where nobody knows, or it goes by itself."""
    tunnel = record.machine.ssh.tunnel if record.machine else None
    if tunnel is None or tunnel.gives_back:
        return None
    return (tunnel.keep_until - now).total_seconds()


def _is_of(job: JobRecord, record: RuntimeRecord) -> bool:
    return (job.runtime, job.request_id) == (record.name, record.request_id)


def _is_kept_since(record: RuntimeRecord, job: JobRecord) -> bool:
    """Whoever connects after a job's end wants the runtime."""
    return job.ended is not None and any(link.connected > job.ended for link in record.projects)
