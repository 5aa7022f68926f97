"""What was told to people, so that it is told once."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class ToldStore(Protocol):
    """Remembers what was said of each job's machines."""

    def told(self, job_id: str) -> str:
        """The key of what was said last; "" when nothing was."""

    def save_told(self, job_id: str, key: str) -> None:
        """Remember that it was said."""

    def heard(self, job_id: str, attempt: int) -> datetime | None:
        """When the last byte of that attempt's log came here; None when none did."""
