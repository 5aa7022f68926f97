"""One archive for a bug report, with nothing in it that is nobody else's business."""

from __future__ import annotations

import getpass
import json
import locale
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from colabdev.core.names import BUG_REPORT
from colabdev.core.redact import Redactor, is_secret_name, secret_values
from colabdev.core.ssh_hosts import parse_destination
from colabdev.errors import StateUnreadable
from colabdev.models import RuntimeRecord
from colabdev.ports import ReportFiles, RuntimeStore
from colabdev.services.checks import Check
from colabdev.version import VERSION

_LOOPBACK = ("127.0.0.1", "::1")
_OUR_VARIABLES = ("COLABDEV_", "WSL_DISTRO_NAME", "LANG", "LC_")


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """Where the archive is, and the names of what is in it."""

    path: Path
    names: tuple[str, ...]


class BugReport:
    """Collects, redacts, writes."""

    def __init__(
        self,
        *,
        files: ReportFiles,
        store: RuntimeStore,
        environment: Mapping[str, str],
        home: Path | None,
    ) -> None:
        self._files = files
        self._store = store
        self._environment = environment
        self._home = home

    def write(self, path: Path | None, checks: Sequence[Check]) -> WrittenReport:
        """Write the archive to `path`, or under a name of its own in the current directory."""
        redactor = self._redactor()
        contents = {
            "versions.json": _format(redactor.document(self._versions())),
            "checks.json": _format(redactor.document([asdict(check) for check in checks])),
        }
        for name, text in self._files.texts():
            contents[redactor.text(name)] = _redacted(redactor, name, text)
        date = datetime.now(UTC).strftime("%Y%m%d")
        written = self._files.write(path, f"{BUG_REPORT}{date}.zip", contents)
        return WrittenReport(written, tuple(contents))

    def _redactor(self) -> Redactor:
        records = list(self._records())
        own = [record for record in records if record.host is not None]
        homes = {self._environment.get(name, "") for name in ("HOME", "USERPROFILE")}
        if self._home is not None:
            homes.add(str(self._home))
        return Redactor(
            secrets={
                *secret_values(self._environment),
                *self._files.secret_lines(),
                *(record.keeper.key for record in records if record.keeper is not None),
            },
            homes=homes,
            users={_user_name(), *(user for record in own if (user := _login_name(record)))},
            hosts={host for record in own for host in _host_names(record)},
        )

    def _records(self) -> Iterator[RuntimeRecord]:
        """Those that can be read; what another one shows is known by its looks alone."""
        with suppress(StateUnreadable):
            for name in self._store.names():
                with suppress(StateUnreadable):
                    record = self._store.load(name)
                    if record is not None:
                        yield record

    def _versions(self) -> Mapping[str, object]:
        return {
            "colabdev": VERSION,
            "python": sys.version,
            "platform": platform.platform(),
            "encoding": [sys.getfilesystemencoding(), locale.getpreferredencoding(False)],
            "variables": {
                name: value
                for name, value in sorted(self._environment.items())
                if name.startswith(_OUR_VARIABLES) and not is_secret_name(name)
            },
        }


def _redacted(redactor: Redactor, name: str, text: str) -> str:
    if name.startswith("ssh/"):
        return redactor.ssh_config(text)
    try:
        document = json.loads(text)
    except ValueError:
        return redactor.text(text)
    return _format(redactor.document(document))


def _format(document: object) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _login_name(record: RuntimeRecord) -> str:
    return record.machine.ssh.user if record.machine is not None else ""


def _host_names(record: RuntimeRecord) -> Iterator[str]:
    """What a host of the user's own is called; an alias of their configuration says nothing to others,
    and may be any word."""
    names = [record.ssh.host] if record.ssh is not None else []
    if record.host is not None:
        names.append(parse_destination(record.host).host)
    return (name for name in names if ("." in name or ":" in name) and name not in _LOOPBACK)


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""  # As in a container that runs under a number nobody gave a name.
