"""One reader's way through a log, and what is said on that way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from colabdev.core.sizes import format_size
from colabdev.errors import RuntimeLost, runtime_lost
from colabdev.models import JobRecord
from colabdev.ports import Progress


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Bytes of one attempt's log, and where in it they stand."""

    attempt: int
    offset: int
    data: bytes


def bytes_of(pieces: Iterable[LogPiece]) -> Iterator[bytes]:
    """The log as it was written."""
    return (piece.data for piece in pieces)


@dataclass(slots=True)
class Reading:
    """One reader's way through the log of one attempt; `offset` is where its next byte stands."""

    job: JobRecord
    progress: Progress
    offset: int = 0
    done: bool = False
    unseen: bool = False
    """The machine went before anybody saw the attempt end."""
    uncopied: str = "the log goes on without a copy here"
    """What it means when this computer's disk is full."""
    copying: bool = True


def lost(reading: Reading) -> RuntimeLost:
    """The machine went, and with it what the reader does not have."""
    job = reading.job
    if job.state.is_end and job.log_bytes is not None:
        return RuntimeLost(
            f"{reading.offset} of {job.log_bytes} bytes of its log are here; the machine is gone",
            hint="colabdev ps says how it ended",
        )
    gone = runtime_lost(job.runtime)
    return RuntimeLost(
        f"{gone.message}; {describe_unseen(job.attempt, reading.offset)}", hint=gone.hint
    )


def describe_unseen(attempt: int, size_bytes: int) -> str:
    """What stands where a log breaks off whose end nobody saw."""
    return f"attempt {attempt} ended unseen after byte {size_bytes}"


def say_what_was_kept(reading: Reading, kept: object) -> None:
    """A result that lies where nobody looks is as good as lost."""
    if isinstance(kept, list) and kept:
        names = ", ".join(repr(str(path)) for path in kept[:3]) + (", …" if len(kept) > 3 else "")
        reading.progress(
            f"{names}: written beside the job's code and not moved, as newer ones are in the work dir; "
            f"they stay on {reading.job.runtime} in ~/.colabdev/jobs/{reading.job.id}/code until `down`"
        )


def say_what_was_lost(reading: Reading, lost_bytes: object) -> None:
    """What the log lacks of what was written to a terminal."""
    if isinstance(lost_bytes, int) and lost_bytes:
        reading.progress(
            f"the log lacks {format_size(lost_bytes)} that {reading.job.id} wrote to its terminal: "
            "the runtime's disk was full"
        )


def say_disk_is_full(reading: Reading) -> None:
    """While it goes on: somebody may make room."""
    reading.progress(
        f"the disk of {reading.job.runtime} is full: what {reading.job.id} prints is lost; "
        "it is ended unless there is room soon"
    )
