"""Frames: what both ends of a stream must agree on, for the agent and for the keeper's socket alike.

A frame is an 8-byte prefix (two big-endian 32-bit lengths), a JSON object in ASCII (the header) and
an optional binary body. Text that came from file names is `os.fsdecode`d, so lone surrogates occur;
JSON's \\u escapes carry them through ASCII unharmed. Unknown header fields are ignored; the first
frame of an agent carries the protocol version.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Callable, Dict, Optional, Tuple

PROTOCOL = 5
"""Version of the agent protocol. Raised when an old agent would misunderstand a new request."""

MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_BODY_BYTES = 64 * 1024 * 1024

_PREFIX = struct.Struct(">II")

Header = Dict[str, Any]
Frame = Tuple[Header, bytes]


class WireError(Exception):
    """The bytes are not frames."""


class Truncated(WireError):
    """The stream ended in the middle of a frame."""


def encode(header: Header, body: bytes = b"") -> bytes:
    """One frame as bytes."""
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    if len(text) > MAX_HEADER_BYTES or len(body) > MAX_BODY_BYTES:
        raise WireError("frame too large: {} + {} bytes".format(len(text), len(body)))
    return _PREFIX.pack(len(text), len(body)) + text + body


def read_frame(read: Callable[[int], bytes]) -> Optional[Frame]:
    """The next frame, or None when the stream ended before it.

    `read(n)` returns up to n bytes and b"" only at the end. Raises Truncated when the stream ends
    inside a frame, WireError when it holds something else than frames.
    """
    prefix = _read_exactly(read, _PREFIX.size, optional=True)
    if not prefix:
        return None
    header_bytes, body_bytes = _PREFIX.unpack(prefix)
    # Checked before anything is allocated: the other side is not trusted with our memory.
    if header_bytes > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES:
        raise WireError("not a frame: lengths {} and {}".format(header_bytes, body_bytes))
    text = _read_exactly(read, header_bytes)
    body = _read_exactly(read, body_bytes)
    return _parse_header(text), body


def _parse_header(text: bytes) -> Header:
    try:
        header = json.loads(text.decode("ascii"))
    except (ValueError, RecursionError) as exc:  # The latter is for thousands of open brackets.
        raise WireError("header is not JSON: {}".format(exc)) from exc
    if not isinstance(header, dict):
        raise WireError("header is not a JSON object")
    return header


def _read_exactly(read: Callable[[int], bytes], count: int, optional: bool = False) -> bytes:
    """`count` bytes; b"" instead of an error when `optional` and the stream had ended before."""
    pieces = []
    missing = count
    while missing:
        piece = read(missing)
        if not piece:
            if optional and missing == count:
                return b""
            raise Truncated("stream ended {} bytes short".format(missing))
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)
