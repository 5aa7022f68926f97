"""Who else is on this machine by SSH: an editor, or a shell of the user's.

A session is a process whose SSH_CONNECTION is another than ours, and open still, for daemons keep the
one of a connection that ended long ago. Only processes whose environment we may read are seen, and only
where there is /proc; what does not start a process here, as a forwarded port alone, is not.
"""

from __future__ import annotations

import os
import select
import time
from typing import Any, Dict, Iterator, Mapping, Optional, Set, Tuple

from . import processes

Answer = Tuple[Dict[str, Any], bytes]
Ends = Tuple[int, int]
"""The ports of a connection: the server's, and the client's."""

_STDIN = 0
_LOOK_S = 3.0
_REPEAT_S = 30.0
_ESTABLISHED = "01"
_OURS = b"/colabdev/agent-"


def follow(arguments: Dict[str, Any], body: bytes) -> Iterator[Answer]:
    """`{"others": whether there are any}`, when that changes and now and then.

    Arguments: `grace_s`, for which there still are some after the last has gone: editors come back. One
    counts only when it was seen twice, for a command that is gone in a moment edits nothing. Ends when
    stdin has something for us.
    """
    grace_s = float(arguments.get("grace_s", 0))
    said: Optional[bool] = None
    said_at = seen_at = float("-inf")
    seen: Set[Ends] = set()
    while True:
        before, seen, now = seen, _others(os.environ), time.monotonic()
        if before & seen:
            seen_at = now
        others = now - seen_at <= grace_s
        if others != said or now - said_at >= _REPEAT_S:
            said, said_at = others, now
            yield {"others": others}, b""
        if select.select([_STDIN], [], [], _LOOK_S)[0]:
            return


def _others(environment: Mapping[str, str]) -> Set[Ends]:
    ours = _ends(environment.get("SSH_CONNECTION", ""))
    if ours is None:
        return set()
    others = {ends for ends in _open_connections() if ends[0] == ours[0]} - {ours}
    if not others:
        return set()
    return others & {_ends(value) for value in processes.values_of("SSH_CONNECTION", _OURS)}


def _ends(text: str) -> Optional[Ends]:
    """Of `client-address client-port server-address server-port`."""
    words = text.split()
    try:
        return (int(words[3]), int(words[1])) if len(words) == 4 else None
    except ValueError:
        return None


def _open_connections() -> Set[Ends]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except OSError:
            continue
        for row in rows:
            if row[3] == _ESTABLISHED:
                found.add((int(row[1].rpartition(":")[2], 16), int(row[2].rpartition(":")[2], 16)))
    return found
