"""What clients did: counters, and the last requests as they came."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from aiohttp import web

_KEPT_REQUESTS = 2000


class Journal:
    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.requests: deque[dict[str, Any]] = deque(maxlen=_KEPT_REQUESTS)

    def clear(self) -> None:
        self.counters.clear()
        self.requests.clear()

    def count(self, what: str, amount: int = 1) -> None:
        self.counters[what] += amount

    def note(self, place: str, request: web.Request) -> dict[str, Any]:
        """`place` says which host it was sent to: `google`, or a runtime's endpoint. The entry's
        `status` is null until there is one, as with a websocket for as long as it is open."""
        entry = {
            "place": place,
            "method": request.method,
            "path": request.path,
            "query": dict(request.query),
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "status": None,
        }
        self.requests.append(entry)
        return entry
