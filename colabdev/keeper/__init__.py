"""One background process per runtime, on the user's computer.

It holds the one SSH connection (`link`), keeps a running agent at hand (`spares`) and hands streams to
everyone else on this computer (`server`, `streams`).
"""

from __future__ import annotations

import sys
from typing import Any

# HACK: paramiko loads invoke, and with it YAML, asyncio and unittest.mock, to follow `Match exec` in a
# file of ssh's, which it is given none of here; that is half of the time that loading it takes. It
# does without where there is no invoke. The way out: paramiko loads it when it is needed.
_modules: dict[str, Any] = sys.modules
_modules.setdefault("invoke", None)
