"""Which tunnel reaches a runtime, and why."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from colabdev.errors import UsageError, unknown_word
from colabdev.models.tunnels import TunnelUse

AUTO = "auto"
DIRECT = "direct"
COLAB = "colab"
NGROK = "ngrok"
CLOUDFLARED = "cloudflared"
COLAB_SSH = "colab-ssh"

NOTEBOOK = "notebook"

TUNNELS: Mapping[str, Sequence[str]] = {
    # launch_ssh changes root's password and /etc/ssh, which a sandbox shares with its computer.
    "local": (DIRECT, NGROK, CLOUDFLARED),
    "ssh": (DIRECT,),
    "colab": (COLAB, NGROK, CLOUDFLARED, COLAB_SSH),
    NOTEBOOK: (NGROK, CLOUDFLARED, COLAB_SSH),
}
"""What each provider allows. `direct` and `colab` are the provider's own way, and no `Tunnel`."""

OWN_WAYS = (DIRECT, COLAB)
_NGROKS = (NGROK, COLAB_SSH)

_COLAB_TERMS = "Google's terms allow SSH only with a positive balance of compute units"
_NOT_GOOGLES = "Google's terms do not apply to it"


@dataclass(frozen=True, slots=True)
class TunnelChoice:
    """The tunnel that was chosen, and the reason, which goes behind `because`."""

    kind: str
    reason: str


def choose_tunnel(
    provider: str, wished: str, *, has_ngrok_token: Callable[[], bool]
) -> TunnelChoice:
    """The tunnel for a runtime of that provider; `UsageError` when it does not allow the one wished."""
    allowed = TUNNELS[provider]
    if wished != AUTO:
        if wished not in allowed:
            raise UsageError(
                _refusal(provider, wished), hint=f"leave it out, or say --tunnel {allowed[0]}"
            )
        return TunnelChoice(wished, "you asked for it")
    if DIRECT in allowed:
        return TunnelChoice(DIRECT, "this computer reaches it by itself")
    if has_ngrok_token():
        return TunnelChoice(NGROK, "an ngrok token is configured")
    if COLAB in allowed:
        return TunnelChoice(COLAB, "no ngrok token is configured")
    return TunnelChoice(CLOUDFLARED, "it needs no account, and no ngrok token is configured")


def _refusal(provider: str, wished: str) -> str:
    known = {AUTO, *(kind for kinds in TUNNELS.values() for kind in kinds)}
    if wished not in known:
        return unknown_word("tunnel", wished, known)
    return (
        f"a runtime of provider {provider!r} cannot be reached by tunnel {wished!r}, only by "
        f"{' or '.join(TUNNELS[provider])}"
    )


def tunnel_use(kind: str, *, allow_ip: Sequence[str] = (), url: str | None = None) -> TunnelUse:
    """The tunnel as it is to be asked for; `UsageError` for options that it has not."""
    if kind not in _NGROKS and (allow_ip or url):
        raise UsageError(
            f"--allow-ip and --ngrok-url are for tunnel 'ngrok', not {kind!r}",
            hint="leave them out, or say --tunnel ngrok",
        )
    return TunnelUse(kind, tuple(_network(word) for word in allow_ip), _checked_url(url))


def _network(word: str) -> str:
    if word == AUTO:
        return word
    try:
        return str(ipaddress.ip_network(word, strict=False))
    except ValueError:
        raise UsageError(
            f"cannot let {word!r} in: --allow-ip takes auto or a network",
            hint="--allow-ip auto, or for example --allow-ip 203.0.113.0/24",
        ) from None


def _checked_url(url: str | None) -> str | None:
    """`HOST:PORT` of what was typed."""
    if url is None:
        return None
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    if not host or "/" in host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise UsageError(
            f"cannot use the reserved address {url!r}: --ngrok-url takes HOST:PORT",
            hint="copy it from https://dashboard.ngrok.com/tcp-addresses",
        )
    return f"{host}:{int(port)}"


def may_have_tunnel(provider: str) -> bool:
    """Whether we have one opened on a runtime of that provider, besides the provider's own way. On a
    notebook's machine the cell does."""
    return provider != NOTEBOOK and any(kind not in OWN_WAYS for kind in TUNNELS[provider])


def own_way(provider: str) -> str:
    """The tunnel of runtimes that have none besides what their provider gives."""
    return COLAB if provider == "colab" else DIRECT


def describe_tunnel(provider: str, kind: str, reason: str) -> str:
    """Which tunnel, why, and what Google's terms say of it, in one line."""
    terms = _COLAB_TERMS if provider in ("colab", NOTEBOOK) else _NOT_GOOGLES
    return f"{kind}, because {reason}; {terms}"
