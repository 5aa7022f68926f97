"""The cell that sets a Colab VM up, as text, and what it prints."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from colabdev.core.cells import parse_cell, render_cell

_MODULE = "colabdev_vm"
_HOST_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+=*")


@dataclass(frozen=True, slots=True)
class VmAnswer:
    """What the cell told of the VM that it ran on. All of it was checked."""

    port: int
    host_key: str
    colab_host_keys: tuple[str, ...]
    """Of Colab's own SSH server, strongest kind first; none when they are not where one looks."""
    hostname: str
    steps: tuple[tuple[str, float], ...]
    """Each step and the seconds that it took."""


def render_bootstrap(source: str, public_key: str) -> str:
    """The cell: the text of `agent/colab_vm.py`, and its call."""
    settings = json.dumps({"public_key": public_key})
    return render_cell(_MODULE, source, f'names["main"](json.loads({settings!r}))')


def parse_bootstrap(printed: str) -> VmAnswer:
    """What the cell printed; ValueError when that makes no sense."""
    document = parse_cell(_MODULE, printed)
    try:
        port = document["port"]
        steps = tuple((str(name), float(seconds)) for name, seconds in document["steps"])
        keys = tuple(checked_host_key(key) for key in document["colab_host_keys"])
        host_key, hostname = checked_host_key(document["host_key"]), str(document["hostname"])
    except (KeyError, TypeError) as exc:
        raise ValueError(f"its answer lacks something: {exc}") from exc
    if not isinstance(port, int) or not 0 < port < 65536:
        raise ValueError(f"{port!r} is not a port")
    return VmAnswer(port, host_key, tuple(sorted(keys, key=_rank)), hostname, steps)


def checked_host_key(key: object) -> str:
    """The key as an OpenSSH line without comment; ValueError for anything else."""
    if not isinstance(key, str) or not _HOST_KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no host key")
    return key


def _rank(key: str) -> tuple[int, str]:
    kinds = ("ssh-ed25519", "ecdsa", "ssh-rsa")
    return next(rank for rank, kind in enumerate(kinds) if key.startswith(kind)), key
