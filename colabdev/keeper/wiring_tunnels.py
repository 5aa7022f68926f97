"""The part of the keeper's composition root that builds tunnels."""

from __future__ import annotations

import os

from colabdev.config.places import Places
from colabdev.core.tunnels import CLOUDFLARED
from colabdev.errors import ColabdevError
from colabdev.ports.tunnels import Tunnel
from colabdev.tunnels.cloudflared import CloudflaredTunnel


def find_tunnel(kind: str, places: Places) -> Tunnel:
    """The tunnel of that kind."""
    if kind == CLOUDFLARED:
        return CloudflaredTunnel(os.environ)
    raise ColabdevError(f"this keeper knows no tunnel {kind!r}", hint="update colabdev")
