"""The tunnels that may run on this machine; one at a time."""

from __future__ import annotations

import importlib
from typing import Any, Dict, Tuple

KINDS = ("cloudflared",)
"""Each is a module with `close()`, which ends it and is harmless when it does not run."""


def close_others(kind: str) -> None:
    """End all but that one."""
    for other in KINDS:
        if other != kind:
            importlib.import_module("." + other, __package__).close()


def answer_close(arguments: Dict[str, Any], body: bytes) -> Tuple[Dict[str, Any], bytes]:
    """End whichever runs."""
    close_others("")
    return {}, b""
