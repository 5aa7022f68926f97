"""Secrets of jobs that outlive the command which was told them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class SecretHolder(Protocol):
    """Keeps secrets in the memory of a process that stays; with it they are gone."""

    def hold(self, job_id: str, variables: Mapping[str, str]) -> None:
        """Keep the job's secret variables for as long as it may continue."""

    def held(self, job_id: str) -> Mapping[str, str] | None:
        """The job's secret variables; None when they are not held, or not any more."""
