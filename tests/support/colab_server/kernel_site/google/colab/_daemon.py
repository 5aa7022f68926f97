"""The stand-in's word for what a real runtime's own daemons do."""

from __future__ import annotations

import json
import os
import urllib.request
from typing import Any


def ask(address_variable: str, path: str, *, timeout_s: float = 60) -> Any:
    """POST to one of the runtime's addresses; the JSON it answers, or None when that is empty."""
    url = f"http://{os.environ[address_variable]}{path}"
    with urllib.request.urlopen(url, data=b"", timeout=timeout_s) as answer:
        body = answer.read()
    return json.loads(body) if body else None
