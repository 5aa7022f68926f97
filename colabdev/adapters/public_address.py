"""Which addresses this computer is seen from."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping, Sequence

import requests

from colabdev.errors import RuntimeUnreachable

_VARIABLE = "COLABDEV_ADDRESS_URLS"
_PAGES = "https://api.ipify.org https://api6.ipify.org"
"""Each answers with the address that it was asked from; the second one by IPv6 alone."""
_TIMEOUT_S = 5.0
_LONGEST_ADDRESS = 45
_OWN_NETWORK_BITS = 64

_log = logging.getLogger(__name__)


def find_own_networks(environment: Mapping[str, str]) -> Sequence[str]:
    """The networks that ngrok sees this computer in: its IPv4 address, and the network of its IPv6 one,
    which changes inside that by the hour. `RuntimeUnreachable` when nobody tells."""
    pages = (environment.get(_VARIABLE) or _PAGES).split()
    found = [network for page in pages if (network := _ask(page)) is not None]
    if not found:
        raise RuntimeUnreachable(
            f"cannot learn this computer's public address for --allow-ip auto: {' and '.join(pages)} "
            "did not tell",
            hint="say it instead of auto: --allow-ip 203.0.113.7",
        )
    return found


def _ask(page: str) -> str | None:
    try:
        answer = requests.get(page, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        address = ipaddress.ip_address(answer.text[: _LONGEST_ADDRESS + 1].strip())
    except (requests.RequestException, ValueError) as exc:
        _log.debug("%s does not tell our address: %s", page, exc)
        return None
    bits = address.max_prefixlen if address.version == 4 else _OWN_NETWORK_BITS
    return str(ipaddress.ip_network((address, bits), strict=False))
