"""What is wrong here, and what to type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from colabdev.errors import ColabdevError
from colabdev.models import ProjectLink, RuntimeRecord, RuntimeState, RuntimeStatus
from colabdev.services.runtimes import Runtimes


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what was seen, and what to do when it is not well."""

    subject: str
    ok: bool
    saw: str
    advice: str = ""


class Doctor:
    """Looks at everything colabdev needs on this computer."""

    def __init__(
        self,
        *,
        runtimes: Runtimes,
        drive: Callable[[RuntimeRecord], Sequence[tuple[ProjectLink, str, bool]]],
        state_dir: Path,
        log_dir: Path,
        ssh_version: Callable[[], str | None],
    ) -> None:
        self._runtimes = runtimes
        self._drive = drive
        self._state_dir = state_dir
        self._log_dir = log_dir
        self._ssh_version = ssh_version

    def examine(self) -> Sequence[Check]:
        """Every check, the good ones too."""
        return [self._check_ssh(), *self._check_runtimes()]

    def _check_ssh(self) -> Check:
        version = self._ssh_version()
        if version is None:
            return Check(
                "ssh", False, "no ssh on the PATH", "install OpenSSH's client (openssh-client)"
            )
        return Check("ssh", True, version)

    def _check_runtimes(self) -> list[Check]:
        listing = self._runtimes.survey()
        broken = [Check("state", False, error.message, error.hint) for error in listing.unreadable]
        if not broken:
            broken = [
                Check(
                    "state",
                    True,
                    f"{len(listing.runtimes)} state files, all readable, in {self._state_dir}",
                )
            ]
        strays = [
            Check(
                f"runtime {name}",
                False,
                "runs, but has no state file here",
                f"colabdev doctor --repair {name}, or colabdev down {name}",
            )
            for name in self._runtimes.strays()
        ]
        return (
            broken
            + strays
            + [
                Check(
                    f"runtime {status.record.name}",
                    status.state is RuntimeState.READY,
                    status.state.value + (f": {status.detail}" if status.detail else ""),
                    f"its keeper's log: {self._log_dir / f'keeper-{status.record.name}.log'}",
                )
                for status in listing.runtimes
            ]
            + [check for status in listing.runtimes for check in self._check_drive(status)]
        )

    def _check_drive(self, status: RuntimeStatus) -> list[Check]:
        """How Drive stands with the projects of a runtime, if that can be asked."""
        if status.state is not RuntimeState.READY:
            return []
        name = status.record.name
        try:
            stands = self._drive(status.record)
        except ColabdevError as exc:
            return [Check(f"drive of {name}", False, exc.message, exc.hint)]
        return [
            Check(
                f"drive of {name}, {link.workdir}",
                is_well,
                saw,
                f"colabdev ssh {name} shows that Drive; colabdev sync tries again at once",
            )
            for link, saw, is_well in stands
        ]
