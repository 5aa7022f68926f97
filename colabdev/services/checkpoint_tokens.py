"""Giving runtimes what lets them into the user's Drive: short tokens, made here, again and again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from colabdev.core.checkpoints import JobCheckpoints
from colabdev.errors import AuthNeeded, ColabdevError
from colabdev.ports import AgentStream, DriveTokens

log = logging.getLogger(__name__)

_RETRY_S = 2.0
_LONGEST_RETRY_S = 60.0


class TokenGiver:
    """Gives the runtime a token when one of its jobs wants one. `open_tokens` is asked for the first."""

    def __init__(self, open_tokens: Callable[[], DriveTokens]) -> None:
        self._open_tokens = open_tokens
        self._retry_at = 0.0
        self._pause_s = _RETRY_S

    def give(self, agent: AgentStream, jobs: Sequence[JobCheckpoints]) -> None:
        """Give it one, or say there why there is none: it is the runtime that people ask."""
        wanting = [job for job in jobs if job.wants_token]
        if not wanting or time.monotonic() < self._retry_at:
            return
        unattended = any(job.is_unattended for job in wanting)
        told: Mapping[str, object]
        try:
            told = self._open_tokens().mint(with_refresh=unattended)
        except ColabdevError as exc:
            self._retry_at = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_RETRY_S)
            log.info("there is no token for the runtime: %s", exc.message)
            if not isinstance(exc, AuthNeeded):
                return
            told = {"problem": f"{exc.message}; {exc.hint}"}
        else:
            self._pause_s = _RETRY_S
        agent.request("checkpoint.token", told)
