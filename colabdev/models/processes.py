"""What processes on a runtime say, and how they end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process on a runtime ended: by itself with `code`, or by a signal named without SIG."""

    code: int | None = None
    signal: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of what a process wrote, and on which of its two pipes."""

    pipe: str
    """`stdout` or `stderr`."""
    data: bytes


@dataclass(frozen=True, slots=True)
class Completed:
    """A process that ended, with all it wrote."""

    status: ExitStatus
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True)
class AgentHello:
    """What an agent says of itself before anything else."""

    protocol: int
    python: str
    pid: int
    facts: Mapping[str, object] = field(default_factory=dict)
