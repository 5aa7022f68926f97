"""The state file says back what was written, and every damage is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colabdev.core.records import RecordUnreadable, format_record, parse_record, salvage
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
from tests.support.records import TUNNEL, make_record

GOLDEN = """{
 "schema": 1,
 "name": "box",
 "provider": "local",
 "request_id": "request-1",
 "created": "2026-11-20T22:34:05.123456+00:00",
 "python": "/usr/bin/python3",
 "host": "me@gpu",
 "phase": "up",
 "machine": {
  "host": "127.0.0.1",
  "port": 2222,
  "user": "root",
  "host_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBRFczrG4bSPDHJyhzTIh0zVZFlHsZLk4VTXgnoHVbqY",
  "login": {
   "host": "me@gpu",
   "identity_files": [
    "/home/me/.ssh/id_rsa"
   ],
   "identities_only": true,
   "identity_agent": "/run/agent",
   "proxy_command": "nc 127.0.0.1 2222",
   "unused": [
    "CertificateFile"
   ]
  },
  "tunnel": null,
  "content_dir": "/content",
  "drive_dir": "/content/drive/MyDrive",
  "since": "2026-11-20T22:34:05.123456+00:00",
  "accelerator": "Tesla T4",
  "request_id": "request-1"
 },
 "tunnel": {
  "kind": "ngrok",
  "allow_ip": [
   "203.0.113.0/24"
  ],
  "url": "1.tcp.ngrok.io:2",
  "endpoint": {
   "host": "a.b",
   "port": 12345,
   "proxy_command": "nc a.b 9"
  }
 },
 "keeper": {
  "pid": 4242,
  "port": 40000,
  "key": "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
  "version": "1.2.3"
 },
 "projects": [
  {
   "path": "/home/me/digits",
   "workdir": "/content/digits",
   "connected": "2026-11-20T22:34:05.123456+00:00"
  }
 ]
}
"""

# Paths are fsdecoded, so lone surrogates are part of what must survive.
TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)
MOMENTS = st.datetimes(
    min_value=datetime(1970, 1, 2),  # Hypothesis adds the zone.
    max_value=datetime(2999, 1, 1),
    timezones=st.just(UTC),
)
PORTS = st.integers(1, 65535)
MACHINES = st.builds(
    Machine,
    ssh=st.builds(
        SshAddress,
        host=TEXTS,
        port=PORTS,
        user=TEXTS,
        host_key=TEXTS,
        tunnel=st.none()
        | st.builds(
            ColabTunnel,
            endpoint=TEXTS,
            host_keys=st.lists(TEXTS, max_size=3).map(tuple),
            keep_until=MOMENTS,
        ),
        login=st.none()
        | st.builds(
            UserLogin,
            host=TEXTS,
            identity_files=st.lists(TEXTS, max_size=3).map(tuple),
            identities_only=st.booleans(),
            identity_agent=TEXTS,
            proxy_command=st.none() | TEXTS,
            unused=st.lists(TEXTS, max_size=2).map(tuple),
        ),
    ),
    content_dir=TEXTS,
    drive_dir=st.none() | TEXTS,
    since=MOMENTS,
    accelerator=st.none() | TEXTS,
    request_id=TEXTS,
)
KEEPERS = st.builds(
    KeeperAddress,
    pid=st.integers(1, 2**22),
    port=PORTS,
    key=st.binary(min_size=32, max_size=32).map(bytes.hex),
    version=TEXTS,
)
RECORDS = st.builds(
    RuntimeRecord,
    name=TEXTS,
    provider=TEXTS,
    request_id=TEXTS,
    created=MOMENTS,
    phase=st.sampled_from(Phase),
    machine=st.none() | MACHINES,
    keeper=st.none() | KEEPERS,
    projects=st.lists(
        st.builds(ProjectLink, path=TEXTS, workdir=TEXTS, connected=MOMENTS), max_size=3
    ).map(tuple),
    python=st.none() | TEXTS,
    host=st.none() | TEXTS,
    tunnel=st.none()
    | st.builds(
        TunnelUse,
        kind=TEXTS,
        allow_ip=st.lists(TEXTS, max_size=2).map(tuple),
        url=st.none() | TEXTS,
        endpoint=st.none()
        | st.builds(Endpoint, host=TEXTS, port=PORTS, proxy_command=st.none() | TEXTS),
    ),
)

RECORD = replace(make_record(), tunnel=TUNNEL)


@given(record=RECORDS)
def test_record_round_trips(record: RuntimeRecord) -> None:
    text = format_record(record)
    assert text.isascii()
    assert parse_record(text) == record


def test_record_is_written_as_the_format_says() -> None:
    assert format_record(RECORD) == GOLDEN


def test_record_of_the_format_is_read() -> None:
    assert parse_record(GOLDEN) == RECORD


def test_record_from_before_own_hosts_is_read() -> None:
    document = json.loads(GOLDEN)
    del document["host"], document["machine"]["login"]
    record = parse_record(json.dumps(document))
    assert record.host is None
    assert record.machine is not None
    assert record.machine.ssh.login is None


def test_unknown_keys_are_ignored() -> None:
    document = json.loads(GOLDEN)
    document["new"] = 1
    document["machine"]["new"] = {"more": []}
    assert parse_record(json.dumps(document)) == RECORD


@pytest.mark.parametrize("keeper", [True, False])
@pytest.mark.parametrize("machine", [True, False])
def test_record_truncated_anywhere_is_unreadable(machine: bool, keeper: bool) -> None:
    record = RECORD
    record = replace(
        record,
        machine=record.machine if machine else None,
        keeper=record.keeper if keeper else None,
    )
    text = format_record(record).rstrip("\n")
    for length in range(len(text)):
        with pytest.raises(RecordUnreadable):
            parse_record(text[:length])


def paths_of(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The way to every value of a JSON document but the document itself."""
    items: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    below = [found for key, inner in items for found in paths_of(inner, (*path, key))]
    return [*([path] if path else []), *below]


def changed(path: tuple[str | int, ...], change: Callable[[Any, Any], None]) -> str:
    """The golden document after `change(parent, key)` at `path`."""
    document = json.loads(GOLDEN)
    parent: Any = document
    for key in path[:-1]:
        parent = parent[key]
    change(parent, path[-1])
    return json.dumps(document)


PATHS = paths_of(json.loads(GOLDEN))
NULLABLE = {
    ("python",),
    ("host",),
    ("tunnel",),
    ("tunnel", "url"),
    ("tunnel", "endpoint"),
    ("tunnel", "endpoint", "proxy_command"),
    ("machine", "login"),
    ("machine", "tunnel"),
    ("machine", "login", "proxy_command"),
    ("machine",),
    ("keeper",),
    ("machine", "drive_dir"),
    ("machine", "accelerator"),
}
TEXTUAL = {
    path for path in PATHS if path[-1] not in ("schema", "port", "pid", 0) and len(path) > 1
} | {("name",), ("provider",), ("request_id",), ("created",), ("python",), ("host",), ("phase",)}
TEXTUAL |= {
    path for path in PATHS if path[-2:-1] in (("identity_files",), ("unused",), ("allow_ip",))
}
TEXTUAL -= {
    path
    for path in PATHS
    if path[-1]
    in ("identity_files", "identities_only", "unused", "login", "tunnel", "allow_ip", "endpoint")
}
OPTIONAL = {("host",), ("tunnel",), ("machine", "login"), ("machine", "tunnel")}
"""Records of older versions have none."""


def test_paths_cover_the_whole_document() -> None:
    assert len(PATHS) == 47
    assert set(PATHS) >= NULLABLE


@pytest.mark.parametrize(
    "path",
    [path for path in PATHS if isinstance(path[-1], str) and path not in OPTIONAL],
    ids=lambda p: ".".join(map(str, p)),
)
def test_record_without_a_key_is_unreadable(path: tuple[str | int, ...]) -> None:
    def delete(parent: Any, key: Any) -> None:
        del parent[key]

    with pytest.raises(RecordUnreadable, match=r"lacks|schema"):
        parse_record(changed(path, delete))


WRONG: list[Any] = [
    None,
    True,
    False,
    -1,
    0,
    1.5,
    65536,
    10**400,
    float("inf"),
    float("nan"),
    "",
    "words",
    [],
    {},
    [[]],
    {"x": 1},
]


def accepts(path: tuple[str | int, ...], wrong: object) -> bool:
    """Whether that value is a right one at that place."""
    if wrong is None:
        return path in NULLABLE
    if path == ("keeper", "pid"):
        return type(wrong) is int and 0 < wrong < 2**31
    if path in (
        ("projects",),
        ("machine", "login", "identity_files"),
        ("machine", "login", "unused"),
        ("tunnel", "allow_ip"),
    ):
        return wrong == []
    if path == ("machine", "login", "identities_only"):
        return isinstance(wrong, bool)
    may_be_any_text = path in TEXTUAL and path[-1] not in (
        "created",
        "since",
        "connected",
        "phase",
        "key",
    )
    return may_be_any_text and isinstance(wrong, str)


@pytest.mark.parametrize("path", PATHS, ids=lambda p: ".".join(map(str, p)))
def test_record_with_a_wrong_value_is_unreadable(path: tuple[str | int, ...]) -> None:
    for wrong in WRONG:

        def put(parent: Any, key: Any, wrong: object = wrong) -> None:
            parent[key] = wrong

        text = changed(path, put)
        if accepts(path, wrong):
            parse_record(text)
            continue
        with pytest.raises(RecordUnreadable):
            parse_record(text)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "not JSON"),
        ("\0" * 500, "not JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("1", "not a JSON object"),
        ("{}", "schema None"),
        ('{"schema": 2}', "schema 2"),
        ('{"schema": "1"}', "schema '1'"),
        ('{"schema": true}', "schema True"),
        ("[" * 100_000, "not JSON"),
        ('{"schema":' * 100_000, "not JSON"),
        ("9" * 10_000, "not JSON"),
        (GOLDEN + GOLDEN, "not JSON"),
    ],
    ids=lambda value: value[:20].strip("\0"),
)
def test_text_that_is_no_record_is_unreadable(text: str, cause: str) -> None:
    with pytest.raises(RecordUnreadable, match=cause):
        parse_record(text)


@pytest.mark.parametrize("key", ["5a", "5a" * 31, "5a" * 33, "zz" * 32, " " * 64])
def test_keeper_key_of_another_length_is_unreadable(key: str) -> None:
    # An empty key would be one that everybody holds.
    with pytest.raises(RecordUnreadable):
        parse_record(GOLDEN.replace("5a" * 32, key))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (GOLDEN[:100], {}),
        ("[" * 100_000, {}),
        ("[]", {}),
        (
            '{"name": "box", "provider": 3, "phase": "up", "keeper": "secret"}',
            {"name": "box", "phase": "up"},
        ),
        (GOLDEN, {"name": "box", "provider": "local", "phase": "up"}),
    ],
    ids=lambda value: str(value)[:10],
)
def test_salvage_gives_what_can_still_be_read(text: str, left: dict[str, str]) -> None:
    assert salvage(text) == left
