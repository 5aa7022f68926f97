"""The part of the keeper's composition root that builds tunnels."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial

from colabdev.adapters.ngrok_token import NgrokTokens
from colabdev.config.places import Places
from colabdev.core.tunnels import CLOUDFLARED, NGROK
from colabdev.errors import ColabdevError
from colabdev.ports.tunnels import Tunnel
from colabdev.tunnels.cloudflared import CloudflaredTunnel
from colabdev.tunnels.ngrok import NgrokServer, NgrokTunnel


def find_tunnel(kind: str, places: Places) -> Tunnel:
    """The tunnel of that kind."""
    if kind == CLOUDFLARED:
        return CloudflaredTunnel(os.environ)
    if kind == NGROK:
        return NgrokTunnel(
            token=NgrokTokens(places.config_dir, os.environ).token,
            server=NgrokServer.from_environment(os.environ),
            own_networks=partial(_own_networks, os.environ),
            timing=_timing(os.environ),
        )
    raise ColabdevError(f"this keeper knows no tunnel {kind!r}", hint="update colabdev")


def _own_networks(environment: Mapping[str, str]) -> Sequence[str]:
    # With requests, which most keepers need for nothing else.
    from colabdev.adapters.public_address import find_own_networks

    return find_own_networks(environment)


def _timing(environment: Mapping[str, str]) -> Mapping[str, float]:
    """What tests make shorter."""
    timing: dict[str, float] = json.loads(environment.get("COLABDEV_TUNNEL_TIMING") or "{}")
    return timing
