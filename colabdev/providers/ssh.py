"""The `ssh` provider: a host of the user's own, reached as their ssh reaches it.

The host was there before and stays after. What makes it a runtime is one file here,
`<hosts>/<name>.json`, written when it was reached and removed when it is given back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Protocol

from colabdev.adapters.named_documents import NamedDocuments
from colabdev.adapters.own_hosts import OwnHosts
from colabdev.adapters.processes import run
from colabdev.core.records import format_machine, parse_machine
from colabdev.errors import AgentUnusable, ColabdevError, UsageError
from colabdev.models import Completed, Machine, SshAddress, StartRequest
from colabdev.ports import Progress, Transport

_SCHEMA = 1
_HOME_TIMEOUT_S = 30.0
_MARKER = "colabdev-home "
_PRINT_HOME = f'import os, json; print("{_MARKER}" + json.dumps(os.path.expanduser("~")))'
_FOLDER = "colabdev"


class Connection(Transport, Protocol):
    """A connection to a host that showed one of the keys that it may."""

    @property
    def host_key(self) -> str: ...

    def close(self) -> None: ...


Connect = Callable[[SshAddress, Sequence[str]], Connection]
"""Connects and logs in to an address whose host may show any of these keys."""


class SshProvider:
    """`ports.Provider` over hosts that exist anyway."""

    def __init__(self, hosts_dir: Path, own_hosts: OwnHosts, connect: Connect) -> None:
        self._documents = NamedDocuments(hosts_dir)
        self._own_hosts = own_hosts
        self._connect = connect

    @property
    def name(self) -> str:
        return "ssh"

    def start(self, request: StartRequest, progress: Progress) -> Machine:
        """Reach the host, verify it by the user's known_hosts, log in and find the home directory;
        each time anew, because their configuration may have changed."""
        if request.host is None:
            raise UsageError(
                "cannot connect to a host of your own: which one?",
                hint=f"colabdev connect {request.name} --provider ssh --host me@gpu.example.com",
            )
        before = self.find(request.name)
        if before is not None and before.request_id != request.request_id:
            raise ColabdevError(
                f"cannot use {request.host!r} as {request.name}: another request has that name",
                hint=f"colabdev doctor --repair {request.name}, or colabdev down {request.name}",
            )
        address, home = self._reach(request.host, progress)
        machine = Machine(
            ssh=address,
            content_dir=str(PurePosixPath(home, _FOLDER)),
            drive_dir=None,
            since=before.since if before else datetime.now(UTC),
            request_id=request.request_id,
        )
        document = {"schema": _SCHEMA, "machine": format_machine(machine)}
        self._documents.write(request.name, document)
        return machine

    def find(self, name: str) -> Machine | None:
        """As it was reached last: a host of one's own that does not answer is not gone."""
        try:
            document = self._documents.read(name)
            return None if document is None else parse_machine(document["machine"])
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as exc:
            raise ColabdevError(
                f"cannot read {self._documents.path(name)}, which says how {name} is reached: {exc}",
                hint=f"colabdev down {name} removes it; your files on the host stay",
            ) from exc

    def names(self) -> Sequence[str]:
        return self._documents.names()

    def release(self, name: str) -> None:
        """Forget it: nothing of the user's is ended or deleted."""
        self._documents.delete(name)

    def _reach(self, typed: str, progress: Progress) -> tuple[SshAddress, str]:
        """Where the host answers, with the key that it showed, and the login's home there."""
        host = self._own_hosts.resolve(typed)
        trusted = self._own_hosts.known_keys(host)
        way = " by its ProxyCommand" if host.login.proxy_command else ""
        progress(f"logging in to {host.user}@{host.hostname}:{host.port}{way}")
        address = SshAddress(host.hostname, host.port, host.user, trusted[0], host.login)
        with closing(self._connect(address, trusted)) as connection:
            return replace(address, host_key=connection.host_key), _find_home(connection)


def _find_home(connection: Transport) -> str:
    """The login's home directory, by the python3 that the agent will be run with."""
    try:
        done = run(connection, ["python3", "-I", "-c", _PRINT_HOME], timeout_s=_HOME_TIMEOUT_S)
    except TimeoutError as exc:
        raise AgentUnusable(
            f"cannot start python3 on the host: no answer within {_HOME_TIMEOUT_S:.0f} s",
            hint="look at what its shell does when it starts, then type the command again",
        ) from exc
    # Whatever a shell's start files print may stand before it, on the same line, too.
    _, found, rest = done.stdout.decode("utf-8", "replace").rpartition(_MARKER)
    if not found:
        raise AgentUnusable(
            f"cannot start python3 on the host: {_complaint(done)}",
            hint="does `python3 --version` work there, in a shell that is no terminal?",
        )
    try:
        home = json.loads(rest.partition("\n")[0])
    except ValueError:
        home = None
    if not isinstance(home, str) or not home.startswith("/"):
        raise AgentUnusable(
            f"cannot tell the home directory on the host: it says {rest.strip()[:80]!r}",
            hint="colabdev needs a POSIX system there",
        )
    return home


def _complaint(done: Completed) -> str:
    lines = (done.stderr.strip() or done.stdout.strip()).decode("utf-8", "replace").splitlines()
    return lines[-1] if lines else f"it ended with {done.status.code} and without a word"
