"""The `notebook` provider: a machine of Colab's that the user started in a browser.

Nobody can be asked whether it is there. What is known of it is the code that its cell printed, kept in
`<notebooks>/<name>.json`; another code makes it another address, or another machine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from colabdev.adapters.files import make_private_directory, not_writable, write_atomic
from colabdev.adapters.processes import run
from colabdev.core.connection_codes import NO_CODE_HINT, Told, told_of
from colabdev.core.names import is_runtime_name
from colabdev.errors import (
    ColabdevError,
    NotSafeToRelease,
    ReleaseUnproven,
    RuntimeUnreachable,
    UsageError,
)
from colabdev.models import Machine, SshAddress, StartRequest
from colabdev.ports import Progress
from colabdev.providers.ssh import Connect

CONTENT_DIR = "/content"
DRIVE_DIR = "/content/drive/MyDrive"
RELEASE_TIMEOUT_S = 60.0
FLUSH_TIMEOUT_S = 900.0
_ASK_TIMEOUT_S = 60.0
_POLL_S = 1.0
_STATE_VARIABLE = "COLABDEV_STATE_DIR"
_SCHEMA = 1

_UNASSIGN = """\
import os, urllib.request
address = "http://%s/unassign" % os.environ["TBE_RUNTIME_ADDR"]
urllib.request.urlopen(urllib.request.Request(address, method="POST"), timeout=30)
"""
_FLUSH = "from google.colab import drive; drive.flush_and_unmount()"


@dataclass(frozen=True, slots=True)
class _Note:
    request_id: str
    told: Told


class NotebookProvider:
    """`ports.Provider` over machines that are known by a code."""

    def __init__(
        self,
        directory: Path,
        connect: Connect,
        via: Callable[[Told], str | None],
        code: Told | None = None,
    ) -> None:
        """`via` is the command that leads to a tunnel's end, None where it is dialled; `code` what the
        user has typed now."""
        self._directory = directory
        self._connect = connect
        self._via = via
        self._code = code

    @property
    def name(self) -> str:
        return "notebook"

    def start(self, request: StartRequest, progress: Progress) -> Machine:
        """The machine that the code tells of, which runs already."""
        told = self.check(request.name)
        note = self._load(request.name)
        if note is not None and note.request_id != request.request_id:
            raise ColabdevError(
                f"cannot use the code as {request.name}: another request has that name",
                hint=f"colabdev doctor --repair {request.name}, or colabdev down {request.name}",
            )
        note = _Note(request.request_id, told)
        self._save(request.name, note)
        return self._machine(note)

    def check(self, name: str) -> Told:
        """What is known of the machine that is to be `name`; `UsageError` when that is nothing, or when
        this computer has not what leads there. Asks nobody."""
        note = self._load(name)
        told = self._code or (note.told if note else None)
        if told is None or told.is_over(datetime.now(UTC)):
            raise UsageError(
                "a notebook's machine is known by the code that its cell prints, and there is none",
                hint=NO_CODE_HINT,
            )
        self._via(told)
        return told

    def find(self, name: str) -> Machine | None:
        """As its code told; one that does not answer is not gone, unless it is too old to be there, or
        the user has brought another machine's code in its place."""
        note = self._load(name)
        if note is None or note.told.is_over(datetime.now(UTC)) or self._is_replaced(note):
            return None
        return self._machine(note)

    def names(self) -> Sequence[str]:
        try:
            files = os.listdir(self._directory)
        except FileNotFoundError:
            return ()
        names = (file.removesuffix(".json") for file in files if file.endswith(".json"))
        known = sorted(name for name in names if is_runtime_name(name))
        return tuple(name for name in known if self.find(name) is not None)

    def release(self, name: str) -> None:
        """Have the machine give itself back. Proved when it took the word and then is silent."""
        machine = self.find(name)
        if machine is not None:
            self._unassign(name, machine.ssh)
        self._path(name).unlink(missing_ok=True)

    def flush(self, name: str, progress: Progress, *, force: bool) -> None:
        """Have Drive take what waits on a machine that answers. `NotSafeToRelease` when it does not
        take it, unless `force`; a machine that does not answer is said to be so."""
        machine = self.find(name)
        if machine is None or machine.drive_dir is None:
            return
        progress("waiting until Drive has taken what was written there")
        try:
            self._ask(machine.ssh, _FLUSH, FLUSH_TIMEOUT_S)
        except RuntimeUnreachable as exc:
            progress(f"cannot ask the runtime what Drive has taken: {exc.message}")
        except ColabdevError as exc:
            if not force:
                raise NotSafeToRelease(
                    f"Drive has not taken all that was written on the runtime: {exc.message}",
                    hint="type the command again in a minute; --force gives up what is not there yet",
                ) from exc
            progress(f"giving it up: {exc.message}")

    def _is_replaced(self, note: _Note) -> bool:
        """The code is another machine's, and this one does not answer any more."""
        if self._code is None or self._code.machine == note.told.machine:
            return False
        try:
            self._connect(self._machine(note).ssh, ()).close()
        except RuntimeUnreachable:
            return True
        raise UsageError(
            "the code is another machine's, and the one from before is still up",
            hint="colabdev down gives that one back; or connect the other under a name of its own",
        )

    def _unassign(self, name: str, address: SshAddress) -> None:
        over = ReleaseUnproven(
            f"cannot prove that the machine of {name!r} was given back; its record is kept",
            hint="in its browser tab: Runtime, Disconnect and delete runtime; no machine of a "
            "notebook's outlives a day, and then colabdev down forgets it",
        )
        try:
            # It may be gone before it could answer.
            with suppress(RuntimeUnreachable):
                self._ask(address, _UNASSIGN, _ASK_TIMEOUT_S, only_if_up=True)
        except ColabdevError as exc:
            raise over from exc
        deadline = time.monotonic() + RELEASE_TIMEOUT_S
        while self._answers(address):
            if time.monotonic() >= deadline:
                raise over
            time.sleep(_POLL_S)

    def _ask(
        self, address: SshAddress, source: str, timeout_s: float, *, only_if_up: bool = False
    ) -> None:
        """Run that Python there; `RuntimeUnreachable` when it does not answer, or stops to."""
        try:
            connection = self._connect(address, ())
        except RuntimeUnreachable as exc:
            if only_if_up:
                raise ColabdevError(exc.message, hint=exc.hint) from exc
            raise
        with closing(connection):
            try:
                done = run(connection, ["python3", "-c", source], timeout_s=timeout_s)
            except TimeoutError:
                raise ColabdevError(
                    f"no answer within {timeout_s:.0f} s", hint="type the command again"
                ) from None
        if done.status.code != 0:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise ColabdevError(
                lines[-1] if lines else f"it ended with {done.status.code}",
                hint="type the command again",
            )

    def _answers(self, address: SshAddress) -> bool:
        try:
            self._connect(address, ()).close()
        except ColabdevError:
            return False
        return True

    def _machine(self, note: _Note) -> Machine:
        told = note.told
        address = SshAddress(told.host, told.port, "root", told.host_key, via=self._via(told))
        return Machine(
            ssh=address,
            content_dir=CONTENT_DIR,
            drive_dir=DRIVE_DIR if told.drive else None,
            since=told.since,
            request_id=note.request_id,
        )

    def _load(self, name: str) -> _Note | None:
        path = self._path(name)
        try:
            document: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return _Note(str(document["request_id"]), told_of(str(document["code"])))
        except FileNotFoundError:
            return None
        except (OSError, KeyError, TypeError, ValueError) as exc:
            raise ColabdevError(
                f"cannot read {path}, which says where {name} is: {exc}",
                hint="remove that file; then connect with the code that the cell prints",
            ) from exc

    def _save(self, name: str, note: _Note) -> None:
        document = {"schema": _SCHEMA, "request_id": note.request_id, "code": note.told.code}
        make_private_directory(self._directory, what="the state", variable=_STATE_VARIABLE)
        try:
            write_atomic(self._path(name), json.dumps(document, indent=1).encode("ascii") + b"\n")
        except OSError as exc:
            raise not_writable(
                self._directory, exc, what="the state", variable=_STATE_VARIABLE
            ) from exc

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"
