"""What the agent says of a work dir, checked: it may be anything."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from colabdev.agent.tree import Entry, HostileName, Problem, check_name, entry_from_row
from colabdev.core.reconcile import RemoteFile
from colabdev.errors import ProtocolError

_MAX_ANSWER_BYTES = 512 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024


@dataclass(slots=True)
class Comparison:
    """The runtime's side, as the agent tells it."""

    tree: str
    ancestor: str
    same: bool
    """What is there is what is here."""
    changed_only: bool
    """`files` lacks those that are as the client believes."""
    files: dict[str, RemoteFile] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    """Those that are not as both sides last had them."""
    folders: list[tuple[str, bool, str]] = field(default_factory=list)
    """See `agent.folders.unsettled`."""
    outputs: list[tuple[str, Entry]] = field(default_factory=list)
    """Fingerprint as it was brought here, and what is there now."""
    offered: dict[str, set[str]] = field(default_factory=dict)
    """What syncs that were cut sent here, whether or not it arrived."""
    problems: list[Problem] = field(default_factory=list)
    bare: bool = False
    """Nothing is or was there: it is the same by any rules, and these are still to be told."""
    staged: Mapping[str, int] = field(default_factory=dict)
    """How many bytes are there of which contents, left by a sync that was cut."""


def parse_comparison(answer: Mapping[str, object], body: bytes) -> Comparison:
    """The answer to a request that compares; `ProtocolError` when it is none."""
    tree, same = answer.get("tree", ""), answer.get("same", False)
    ancestor, changed_only = answer.get("ancestor", ""), answer.get("changed_only")
    if not isinstance(tree, str) or not isinstance(ancestor, str) or not isinstance(same, bool):
        raise ProtocolError("cannot understand how the agent compares: no tree")
    if not isinstance(changed_only, bool):
        raise ProtocolError("cannot understand how the agent compares: not all is said")
    bare = answer.get("bare") is True
    found = Comparison(tree, ancestor, same, changed_only, bare=bare, staged=_staged(answer))
    try:
        for line in _lines(body):
            what, rows = json.loads(line)
            for row in rows:
                _take(found, what, row)
    except (zlib.error, ValueError, TypeError, AttributeError) as exc:
        raise ProtocolError(f"cannot understand the agent's list of files: {exc}") from exc
    return found


def parse_failures(answer: Mapping[str, object]) -> Sequence[tuple[str, str, str]]:
    """Path, kind and detail of each change that the agent did not make."""
    failures = answer.get("failures")
    try:
        if not isinstance(failures, list):
            raise TypeError("no list")
        return [(str(path), str(kind), str(detail)) for path, kind, detail in failures]
    except (TypeError, ValueError) as exc:
        raise ProtocolError(f"cannot understand the agent's list of failures: {exc}") from exc


def _staged(answer: Mapping[str, object]) -> Mapping[str, int]:
    staged = answer.get("staged", {})
    if not isinstance(staged, dict) or not all(isinstance(n, int) for n in staged.values()):
        raise ProtocolError("cannot understand how the agent compares: no sizes of what is staged")
    return staged


def _take(found: Comparison, what: str, row: Any) -> None:
    if what == "files":
        path, placed, now = row
        found.files[check_name(path)] = RemoteFile(str(placed), str(now))
    elif what == "folders":
        path, placed, state = row
        found.folders.append((check_name(path), bool(placed), str(state)))
    elif what == "offered":
        path, fingerprint = row
        found.offered.setdefault(check_name(path), set()).add(str(fingerprint))
    elif what == "problems":
        path, reason = row
        found.problems.append((str(path), str(reason)))
    elif what in ("entries", "outputs"):
        entry_row = row if what == "entries" else row[1]
        try:
            entry = entry_from_row(entry_row)
        except HostileName as exc:
            # Not even its name is to be trusted; the rest of the list is.
            found.problems.append((str(entry_row[0]), str(exc)))
            found.files.pop(str(entry_row[0]), None)
            return
        if what == "entries":
            found.entries[entry.path] = entry
        else:
            found.outputs.append((str(row[0]), entry))


def _lines(body: bytes) -> Iterator[bytes]:
    """The body unpacked, a line at a time: a large tree is never in memory as text."""
    unpacker = zlib.decompressobj()
    rest, total, packed = b"", 0, body
    while packed:
        piece = unpacker.decompress(packed, _PIECE_BYTES)
        packed = unpacker.unconsumed_tail
        total += len(piece)
        if total > _MAX_ANSWER_BYTES:
            raise ValueError("it is too long")
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest or (body and not unpacker.eof):
        raise ValueError("its end is missing")
