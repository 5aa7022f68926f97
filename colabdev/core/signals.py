"""The names of signals, the same on every system: a runtime is not this computer."""

from __future__ import annotations

from colabdev.errors import UsageError, unknown_word

ENDING = ("ABRT", "ALRM", "HUP", "INT", "KILL", "PIPE", "QUIT", "TERM", "USR1", "USR2")
"""Those that can ask a job to end."""


def parse_signal(typed: str) -> str:
    """The name without SIG; `UsageError` when it asks nobody to end."""
    name = typed.upper().removeprefix("SIG")
    if name not in ENDING:
        raise UsageError(
            unknown_word("signal", name, ENDING), hint="colabdev stop JOB --signal INT"
        )
    return name
