"""A stream of changes comes out as it went in, whatever it holds, and damage is noticed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colabdev.agent import changes
from colabdev.agent.changes import Change, Malformed, Unpacker, pack
from colabdev.agent.tree import Entry, HostileName


def entry(path: str, content: bytes) -> Entry:
    return Entry(path, "file", False, len(content), 1, hashlib.sha256(content).hexdigest())


def round_trip(
    contents: dict[str, bytes], *, sizes: dict[str, int] | None = None
) -> dict[str, bytes]:
    """What arrives of these contents, when the files have meanwhile other sizes than announced."""

    def read(wanted: Change) -> Iterator[bytes]:
        data = contents[wanted.path]
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    steps = [
        Change(
            changes.SEND,
            path,
            "",
            entry(path, data)._replace(size=(sizes or {}).get(path, len(data))),
        )
        for path, data in contents.items()
    ]
    frames = pack(steps, read)
    unpacker = Unpacker(lambda: next(frames))
    return {change.path: b"".join(unpacker.content()) for change in unpacker.changes()}


@given(st.lists(st.binary(max_size=3000), max_size=40))
def test_contents_arrive(pieces: list[bytes]) -> None:
    contents = {f"f{number}": piece for number, piece in enumerate(pieces)}
    assert round_trip(contents) == contents


def test_large_and_many_arrive() -> None:
    dice = random.Random(1)
    contents = {f"small{i}": b"x" * (i % 50) for i in range(3000)}
    contents["noise"] = dice.randbytes(3_000_000)
    contents["zeros"] = bytes(5_000_000)
    contents["last"] = b"end"
    assert round_trip(contents) == contents


def test_file_that_shrank_is_filled_up_and_the_next_is_whole() -> None:
    got = round_trip({"a": b"ab", "b": b"next"}, sizes={"a": 600_000})
    assert got["a"] == b"ab" + bytes(599_998)
    assert got["b"] == b"next"


def test_file_that_grew_is_cut_off() -> None:
    assert round_trip({"a": b"x" * 300_000, "b": b"next"}, sizes={"a": 7})["a"] == b"x" * 7


def test_file_that_went_away_is_filled_up() -> None:
    def read(wanted: Change) -> Iterator[bytes]:
        raise FileNotFoundError(wanted.path)

    frames = pack([Change(changes.SEND, "a", "", entry("a", b"abc"))], read)
    unpacker = Unpacker(lambda: next(frames))
    assert [b"".join(unpacker.content()) for _ in unpacker.changes()] == [bytes(3)]


def test_content_that_nobody_takes_is_skipped() -> None:
    contents = {"a": b"x" * 700_000, "b": b"y"}
    steps = [Change(changes.SEND, path, "", entry(path, data)) for path, data in contents.items()]
    frames = pack(steps, lambda wanted: iter([contents[wanted.path]]))
    unpacker = Unpacker(lambda: next(frames))
    assert [change.path for change in unpacker.changes()] == ["a", "b"]


def test_stream_without_contents_has_the_changes() -> None:
    steps = [
        Change(changes.SEND, "a", "", entry("a", b"abc")),
        Change(changes.DELETE, "b", "f-" + "0" * 64),
    ]
    frames = pack(steps, None)
    assert list(Unpacker(lambda: next(frames), contents=False).changes()) == steps


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ({}, b""),
        ({"rows": 0, "size": -1}, b""),
        ({"rows": 9, "size": 3}, b"abc"),
        ({"rows": 0, "size": 5}, b"abc"),
        ({"rows": 0, "size": 10**10, "z": True}, b"abc"),
        ({"rows": 4, "size": 4}, b"null"),
    ],
)
def test_frames_that_are_none_are_refused(header: dict[str, object], body: bytes) -> None:
    with pytest.raises(Malformed):
        list(Unpacker(lambda: (header, body)).changes())


@pytest.mark.parametrize(
    "row",
    [
        '["send", "a", "", null]',
        '["delete", "../a", "", null]',
        '["eat", "a", "", null]',
        '["send", "a", "", ["b", "file", false, 0, 0, "", ""]]',
        '["chmod", "a", "", ["a", "link", false, 0, 0, "", "x"]]',
    ],
)
def test_rows_that_are_no_changes_are_refused(row: str) -> None:
    body = f"[{row}]".encode()
    with pytest.raises((Malformed, HostileName)):
        list(Unpacker(lambda: ({"rows": len(body), "size": len(body)}, body)).changes())
