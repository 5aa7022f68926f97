"""Which tunnel reaches a runtime, for each provider and wish."""

from __future__ import annotations

import pytest

from colabdev.core.tunnels import choose_tunnel, describe_tunnel, tunnel_use
from colabdev.errors import UsageError
from colabdev.models.tunnels import TunnelUse


@pytest.mark.parametrize(
    ("provider", "has_token", "kind"),
    [
        ("local", True, "direct"),
        ("ssh", True, "direct"),
        ("colab", True, "ngrok"),
        ("colab", False, "colab"),
        ("notebook", True, "ngrok"),
        ("notebook", False, "cloudflared"),
    ],
)
def test_auto_is_the_documented_tunnel(provider: str, has_token: bool, kind: str) -> None:
    choice = choose_tunnel(provider, "auto", has_ngrok_token=lambda: has_token)
    assert choice.kind == kind
    said = describe_tunnel(provider, kind, choice.reason)
    assert said.startswith(f"{kind}, because ")
    assert ("balance of compute units" in said) == (provider in ("colab", "notebook"))


@pytest.mark.parametrize(
    ("provider", "allowed"),
    [
        ("local", {"direct", "ngrok", "cloudflared"}),
        ("ssh", {"direct"}),
        ("colab", {"colab", "ngrok", "cloudflared", "colab-ssh"}),
        ("notebook", {"ngrok", "cloudflared", "colab-ssh"}),
    ],
)
def test_only_allowed_tunnels_are_taken(provider: str, allowed: set[str]) -> None:
    for wished in ("direct", "ngrok", "colab", "cloudflared", "colab-ssh", "carrier-pigeon"):
        if wished in allowed:
            assert choose_tunnel(provider, wished, has_ngrok_token=bool).kind == wished
        else:
            with pytest.raises(UsageError, match=wished):
                choose_tunnel(provider, wished, has_ngrok_token=bool)


def test_options_are_checked_before_anything_is_asked_for() -> None:
    use = tunnel_use("ngrok", allow_ip=["auto", "203.0.113.7", "2001:db8::/32"], url="tcp://a.b:1")
    assert use == TunnelUse("ngrok", ("auto", "203.0.113.7/32", "2001:db8::/32"), "a.b:1")
    for options in ({"allow_ip": ["everybody"]}, {"url": "a.b"}, {"url": "a.b:70000"}):
        with pytest.raises(UsageError, match="cannot"):
            tunnel_use("ngrok", **options)
    with pytest.raises(UsageError, match="are for tunnel 'ngrok'"):
        tunnel_use("direct", allow_ip=["auto"])
