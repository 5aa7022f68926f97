"""The state file of a runtime: one JSON object, versioned by `schema`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from colabdev.core.times import format_exact_time, parse_time
from colabdev.models import (
    ColabTunnel,
    KeeperAddress,
    Machine,
    Phase,
    ProjectLink,
    RuntimeRecord,
    SshAddress,
    UserLogin,
)
from colabdev.models.tunnels import Endpoint, TunnelUse

SCHEMA = 1

_KEEPER_KEY = re.compile("[0-9a-f]{64}")


class RecordUnreadable(ValueError):
    """The text is not a record of this schema; the message says what is wrong with it."""


def format_record(record: RuntimeRecord) -> str:
    """The record as the text of its state file."""
    document = {
        "schema": SCHEMA,
        "name": record.name,
        "provider": record.provider,
        "request_id": record.request_id,
        "created": format_exact_time(record.created),
        "python": record.python,
        "host": record.host,
        "phase": record.phase.value,
        "machine": format_machine(record.machine) if record.machine else None,
        "tunnel": format_use(record.tunnel),
        "keeper": _format_keeper(record.keeper),
        "projects": [
            {
                "path": link.path,
                "workdir": link.workdir,
                "connected": format_exact_time(link.connected),
            }
            for link in record.projects
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def parse_record(text: str) -> RuntimeRecord:
    """The record that `format_record` wrote; `RecordUnreadable` for anything else."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise RecordUnreadable(f"it is not JSON ({exc})") from exc
    if not isinstance(document, dict):
        raise RecordUnreadable("it is not a JSON object")
    schema = document.get("schema")
    if type(schema) is not int or schema != SCHEMA:  # True == 1 as well.
        raise RecordUnreadable(f"it has schema {schema!r}; this colabdev reads {SCHEMA}")
    try:
        return _parse_document(document)
    except KeyError as exc:
        raise RecordUnreadable(f"it lacks {exc.args[0]!r}") from exc
    except (TypeError, ValueError, AttributeError) as exc:
        raise RecordUnreadable(f"a value in it makes no sense ({exc})") from exc


def salvage(text: str) -> Mapping[str, str]:
    """What can still be read of a damaged record: the plain strings `name`, `provider`, `phase`."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    wanted = ("name", "provider", "phase")
    return {key: document[key] for key in wanted if isinstance(document.get(key), str)}


def _parse_document(document: Mapping[str, Any]) -> RuntimeRecord:
    return RuntimeRecord(
        name=_text(document["name"]),
        provider=_text(document["provider"]),
        request_id=_text(document["request_id"]),
        created=parse_time(document["created"]),
        phase=Phase(document["phase"]),
        machine=parse_machine(document["machine"]) if document["machine"] is not None else None,
        keeper=_parse_keeper(document["keeper"]),
        projects=tuple(
            ProjectLink(
                path=_text(link["path"]),
                workdir=_text(link["workdir"]),
                connected=parse_time(link["connected"]),
            )
            for link in _list(document["projects"])
        ),
        python=_optional_text(document["python"]),
        host=_optional_text(document.get("host")),  # Older records have none, nor the next.
        tunnel=parse_use(document.get("tunnel")),
    )


def format_machine(machine: Machine) -> dict[str, Any]:
    """The machine as the record's `machine`."""
    return {
        "host": machine.ssh.host,
        "port": machine.ssh.port,
        "user": machine.ssh.user,
        "host_key": machine.ssh.host_key,
        "login": _format_login(machine.ssh.login),
        "tunnel": _format_tunnel(machine.ssh.tunnel),
        "via": machine.ssh.via,
        "content_dir": machine.content_dir,
        "drive_dir": machine.drive_dir,
        "since": format_exact_time(machine.since),
        "accelerator": machine.accelerator,
        "request_id": machine.request_id,
    }


def parse_machine(document: Mapping[str, Any]) -> Machine:
    """The machine that `format_machine` wrote; KeyError, TypeError or ValueError for anything else."""
    ssh = SshAddress(
        host=_text(document["host"]),
        port=_port(document["port"]),
        user=_text(document["user"]),
        host_key=_text(document["host_key"]),
        login=_parse_login(document.get("login")),  # Older records have none, nor the next.
        tunnel=_parse_tunnel(document.get("tunnel")),
        via=_optional_text(document.get("via")),
    )
    return Machine(
        ssh=ssh,
        content_dir=_text(document["content_dir"]),
        drive_dir=_optional_text(document["drive_dir"]),
        since=parse_time(document["since"]),
        accelerator=_optional_text(document["accelerator"]),
        request_id=_text(document["request_id"]),
    )


def _format_login(login: UserLogin | None) -> dict[str, Any] | None:
    if login is None:
        return None
    return {
        "host": login.host,
        "identity_files": list(login.identity_files),
        "identities_only": login.identities_only,
        "identity_agent": login.identity_agent,
        "proxy_command": login.proxy_command,
        "unused": list(login.unused),
    }


def _parse_login(document: Mapping[str, Any] | None) -> UserLogin | None:
    if document is None:
        return None
    return UserLogin(
        host=_text(document["host"]),
        identity_files=tuple(_text(path) for path in _list(document["identity_files"])),
        identities_only=_boolean(document["identities_only"]),
        identity_agent=_text(document["identity_agent"]),
        proxy_command=_optional_text(document["proxy_command"]),
        unused=tuple(_text(option) for option in _list(document["unused"])),
    )


def _format_tunnel(tunnel: ColabTunnel | None) -> dict[str, Any] | None:
    if tunnel is None:
        return None
    return {
        "kind": "colab",
        "endpoint": tunnel.endpoint,
        "host_keys": list(tunnel.host_keys),
        "keep_until": format_exact_time(tunnel.keep_until),
        "gives_back": tunnel.gives_back,
        "max_units": tunnel.max_units,
    }


def _parse_tunnel(document: Mapping[str, Any] | None) -> ColabTunnel | None:
    if document is None:
        return None
    if document["kind"] != "colab":
        raise ValueError(f"no tunnel of kind {document['kind']!r} is known")
    keys = tuple(_text(key) for key in _list(document["host_keys"]))
    return ColabTunnel(
        endpoint=_text(document["endpoint"]),
        host_keys=keys,
        keep_until=parse_time(document["keep_until"]),
        gives_back=document.get("gives_back") is True,  # Older records say neither.
        max_units=_optional_number(document.get("max_units")),
    )


def _optional_number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def format_use(use: TunnelUse | None) -> dict[str, Any] | None:
    """The tunnel as the record's `tunnel`."""
    if use is None:
        return None
    end = use.endpoint
    return {
        "kind": use.kind,
        "allow_ip": list(use.allow_ip),
        "url": use.url,
        "endpoint": None
        if end is None
        else {"host": end.host, "port": end.port, "proxy_command": end.proxy_command},
    }


def parse_use(document: Mapping[str, Any] | None) -> TunnelUse | None:
    """The tunnel that `format_use` wrote; KeyError, TypeError or ValueError for anything else."""
    if document is None:
        return None
    end = document["endpoint"]
    return TunnelUse(
        kind=_text(document["kind"]),
        allow_ip=tuple(_text(network) for network in _list(document["allow_ip"])),
        url=_optional_text(document["url"]),
        endpoint=None if end is None else _parse_endpoint(end),
    )


def _parse_endpoint(document: Mapping[str, Any]) -> Endpoint:
    return Endpoint(
        host=_text(document["host"]),
        port=_port(document["port"]),
        proxy_command=_optional_text(document["proxy_command"]),
    )


def _format_keeper(keeper: KeeperAddress | None) -> dict[str, Any] | None:
    if keeper is None:
        return None
    return {
        "pid": keeper.pid,
        "port": keeper.port,
        "key": keeper.key,
        "version": keeper.version,
    }


def _parse_keeper(document: Mapping[str, Any] | None) -> KeeperAddress | None:
    if document is None:
        return None
    key = _text(document["key"])
    if not _KEEPER_KEY.fullmatch(key):
        raise ValueError("the keeper's key is not 32 bytes in hex")
    return KeeperAddress(
        pid=_pid(document["pid"]),
        port=_port(document["port"]),
        key=key,
        version=_text(document["version"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is not true or false")
    return value


def _port(value: object) -> int:
    number = _integer(value)
    if not 0 < number < 65536:
        raise ValueError(f"{number!r} is not a port")
    return number


def _pid(value: object) -> int:
    number = _integer(value)
    if not 0 < number < 2**31:
        # Signals to 0 and below go to whole groups of processes.
        raise ValueError(f"{number!r} is not a process id")
    return number


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not an integer")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value
