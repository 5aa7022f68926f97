"""Frames: what was written is read, and everything else is told apart from it."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colabdev.agent import wire

# File names are fsdecoded, so lone surrogates are part of what must go through.
TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)
HEADERS = st.dictionaries(TEXTS, VALUES, max_size=4)
FRAMES = st.tuples(HEADERS, st.binary(max_size=200))

EXAMPLE = wire.encode({"request": "ping", "arguments": {"x": [1, None, "\udcff"]}}, b"body\0\xff")


def dribble(data: bytes, sizes: Iterable[int]) -> Callable[[int], bytes]:
    """A `read` that gives no more at once than each of `sizes` says, as sockets do."""
    source = io.BytesIO(data)
    limits = iter(sizes)
    return lambda count: source.read(min(count, next(limits, 1)))


def prefixed(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">II", len(header), len(body)) + header + body


@given(frames=st.lists(FRAMES, max_size=4))
def test_frames_round_trip(frames: list[tuple[dict[str, Any], bytes]]) -> None:
    stream = io.BytesIO(b"".join(wire.encode(header, body) for header, body in frames))
    for header, body in frames:
        assert wire.read_frame(stream.read) == (header, body)
    assert wire.read_frame(stream.read) is None


@given(frame=FRAMES, sizes=st.lists(st.integers(1, 9), max_size=30))
def test_frame_in_small_pieces_is_read(
    frame: tuple[dict[str, Any], bytes], sizes: list[int]
) -> None:
    assert wire.read_frame(dribble(wire.encode(*frame), sizes)) == frame


def test_frame_is_written_as_documented() -> None:
    assert wire.encode({"a": "é\udcff"}, b"xy") == (
        b"\x00\x00\x00\x14\x00\x00\x00\x02" + rb'{"a":"\u00e9\udcff"}' + b"xy"
    )


def test_frame_truncated_anywhere_is_told_from_an_end() -> None:
    assert wire.read_frame(io.BytesIO(b"").read) is None
    for length in range(1, len(EXAMPLE)):
        with pytest.raises(wire.Truncated):
            wire.read_frame(io.BytesIO(EXAMPLE[:length]).read)


def test_second_frame_truncated_does_not_harm_the_first() -> None:
    stream = io.BytesIO(EXAMPLE + EXAMPLE[:5])
    assert wire.read_frame(stream.read) is not None
    with pytest.raises(wire.Truncated):
        wire.read_frame(stream.read)


@pytest.mark.parametrize(
    ("header_bytes", "body_bytes"),
    [
        (wire.MAX_HEADER_BYTES + 1, 0),
        (2, wire.MAX_BODY_BYTES + 1),
        (0xFFFFFFFF, 0),
        (0, 0xFFFFFFFF),
        struct.unpack(">II", b"SSH-2.0-"),
        struct.unpack(">II", b"HTTP/1.1"),
    ],
)
def test_oversized_frame_is_refused_before_it_is_read(header_bytes: int, body_bytes: int) -> None:
    asked: list[int] = []
    stream = io.BytesIO(struct.pack(">II", header_bytes, body_bytes) + b"{}")

    def read(count: int) -> bytes:
        asked.append(count)
        return stream.read(count)

    with pytest.raises(wire.WireError, match=r"not a frame") as caught:
        wire.read_frame(read)
    assert not isinstance(caught.value, wire.Truncated)
    assert asked == [8]


def test_frame_of_the_largest_size_is_taken() -> None:
    body = bytes(wire.MAX_BODY_BYTES)
    frame = wire.read_frame(io.BytesIO(wire.encode({}, body)).read)
    assert frame is not None
    assert len(frame[1]) == wire.MAX_BODY_BYTES


@pytest.mark.parametrize(
    ("header", "body"),
    [({}, bytes(wire.MAX_BODY_BYTES + 1)), ({"x": "y" * wire.MAX_HEADER_BYTES}, b"")],
    ids=["body", "header"],
)
def test_oversized_frame_is_not_written(header: dict[str, Any], body: bytes) -> None:
    with pytest.raises(wire.WireError, match="frame too large"):
        wire.encode(header, body)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"text"',
        b"{} {}",
        b'{"a": \xc3\xa9}',
        '{"a": "é"}'.encode(),
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"9" * 100_000,
    ],
    ids=lambda header: ascii(header[:12]),
)
def test_header_that_is_no_ascii_object_is_refused(header: bytes) -> None:
    with pytest.raises(wire.WireError, match="header is not") as caught:
        wire.read_frame(io.BytesIO(prefixed(header)).read)
    assert not isinstance(caught.value, wire.Truncated)


@given(garbage=st.binary(max_size=64))
def test_garbage_is_an_error_or_a_frame_and_nothing_else(garbage: bytes) -> None:
    try:
        frame = wire.read_frame(io.BytesIO(garbage).read)
    except wire.WireError:
        return
    if frame is None:
        assert garbage == b""
    else:
        assert isinstance(frame[0], dict)


def test_header_reads_as_json_by_others() -> None:
    header_bytes = struct.unpack(">II", EXAMPLE[:8])[0]
    assert json.loads(EXAMPLE[8 : 8 + header_bytes])["request"] == "ping"
