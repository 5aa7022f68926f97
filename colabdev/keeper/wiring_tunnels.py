"""The part of the keeper's composition root that builds tunnels."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial

from colabdev.config.places import Places
from colabdev.core.connection_codes import Told
from colabdev.core.tunnels import CLOUDFLARED, COLAB_SSH, NGROK
from colabdev.errors import ColabdevError
from colabdev.ports.tunnels import Tunnel
from colabdev.tunnels import cloudflared


def command_to(told: Told) -> str | None:
    """The command that leads to a notebook's machine, where its tunnel needs one."""
    return cloudflared.command_to(told, os.environ)


def find_tunnel(kind: str, places: Places) -> Tunnel:
    """The tunnel of that kind."""
    if kind == CLOUDFLARED:
        return cloudflared.CloudflaredTunnel(os.environ, _timing(os.environ))
    if kind in (NGROK, COLAB_SSH):
        # With what asks keyrings, which no other keeper needs.
        from colabdev.adapters.ngrok_token import NgrokTokens
        from colabdev.tunnels.ngrok import NgrokServer, NgrokTunnel

        return NgrokTunnel(
            kind,
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
