"""What requests that look into a store have in common: the store, and a process that may hang in it."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Callable, Dict, Iterator

from .child import Child, Message, Say
from .drive_http import API_URL
from .opening import open_named
from .stores import Store, StoreError

_STALL_S = 60.0


def open_asked(arguments: Dict[str, Any], name: object = None) -> Store:
    """The store `name` of a request with `drive_dir` and `api_url`; by default its `store`."""
    drive_dir = arguments.get("drive_dir")
    api_url = str(arguments.get("api_url") or API_URL)
    return open_named(str(name or arguments["store"]), drive_dir and str(drive_dir), api_url)


def messages(work: Callable[[Say], None]) -> Iterator[Message]:
    """What it says in a process of its own, the last with `end`; one that hangs is given up."""
    child = Child(partial(_guarded, work))
    has_ended = False
    while not has_ended:
        child.wait(_STALL_S)
        for message in child.messages():
            yield message
            has_ended = has_ended or "end" in message
        if child.fd < 0:
            child.join()
            if not has_ended:
                yield {"end": True, "problem": "it was interrupted"}
            return
        if time.monotonic() - child.heard > _STALL_S:
            child.kill()
            yield {"end": True, "problem": "the store does not answer"}
            return


def _guarded(work: Callable[[Say], None], say: Say) -> None:
    try:
        work(say)
    except StoreError as exc:
        say({"end": True, "problem": str(exc)})
    except OSError as exc:
        say({"end": True, "problem": "it fails: {}".format(exc.strerror or exc)})
