"""What goes wrong with a simulated Drive."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Faults:
    """Nothing, by default. Shares are of all uploads, or of all writes."""

    seed: int = 0
    delay_s: tuple[float, float] = (0.02, 0.02)
    """An upload begins so long after the file was closed."""
    bytes_per_s: float = float("inf")
    reorders: bool = False
    """What waits goes in any order."""
    stalled: bool = False
    """Nothing is uploaded."""
    lies: float = 0.0
    """Drive says that it has arrived, and the cloud never sees it."""
    flips: float = 0.0
    """One bit arrives as another, and Drive says the checksum of what was written."""
    twins: float = 0.0
    """The cloud has it twice under one name."""
    io_errors: float = 0.0
    quota_bytes: int = 0
    """What does not fit is refused with ENOSPC; 0 is no end."""
    stale_s: float = 0.0
    """A new mount lists nothing of what arrived in so many seconds before it, for as long."""
    shows_others_s: float = float("inf")
    """What another machine put there is listed so long after it arrived; never, unless told."""
    has_attributes: bool = True
    hangs: bool = False
    """No call is answered."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        values = json.loads(text)
        return cls(**{**values, "delay_s": tuple(values["delay_s"])})
