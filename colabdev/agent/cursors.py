"""Where in a job's log to begin: at its last lines, or at what was written since some moment. The agent
asks it of a log that grows, this computer of its copy."""

from __future__ import annotations

import json
from typing import BinaryIO, Iterable

_CHUNK_BYTES = 64 * 1024


def offset_of_last_lines(log: BinaryIO, size: int, count: int) -> int:
    """Where the last `count` lines of the first `size` bytes of the log begin. A line ends with a line
    feed; the last one may lack it."""
    start, left = size, count
    while start > 0 and left > 0:
        end, start = start, max(start - _CHUNK_BYTES, 0)
        log.seek(start)
        chunk = log.read(end - start)
        # The line feed at the very end ends the last line, and begins none.
        at = len(chunk) - (end == size and chunk.endswith(b"\n"))
        while left > 0:
            at = chunk.rfind(b"\n", 0, at)
            if at < 0:
                break
            left -= 1
        if left == 0:
            return start + at + 1
    return start


def offset_since(events: Iterable[bytes], moment: float) -> int:
    """How long the log was at `moment` (seconds since 1970), by the lines of `events.jsonl`; the last
    mark before it counts, so that rather more is shown than less. Lines that make no sense are left
    out."""
    offset = 0
    for line in events:
        try:
            event = json.loads(line.decode("ascii"))
            time, at = float(event["time"]), int(event["offset"])
        except (ValueError, KeyError, TypeError):
            continue
        if time > moment:
            break
        offset = at
    return offset
