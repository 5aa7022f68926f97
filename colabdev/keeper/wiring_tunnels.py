"""The part of the keeper's composition root that builds tunnels."""

from __future__ import annotations

from colabdev.config.places import Places
from colabdev.errors import ColabdevError
from colabdev.ports.tunnels import Tunnel


def find_tunnel(kind: str, places: Places) -> Tunnel:
    """The tunnel of that kind."""
    raise ColabdevError(f"this keeper knows no tunnel {kind!r}", hint="update colabdev")
