"""What Google's servers expect: hosts, headers, scopes, numbers.

Read in Google's open-source clients; nothing here was tried against live Colab. What nobody has
verified is marked so, and stands only here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

COLAB_SCOPE = "https://www.googleapis.com/auth/colaboratory"
EMAIL_SCOPE = "https://www.googleapis.com/auth/userinfo.email"
DRIVE_SCOPE = "https://www.googleapis.com/auth/drive.file"
"""Files that our own OAuth client has made, and no others."""
SCOPES = ("openid", EMAIL_SCOPE, COLAB_SCOPE, DRIVE_SCOPE)
NEEDED_SCOPES = frozenset({EMAIL_SCOPE, COLAB_SCOPE})
_CLOUD_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
"""gcloud insists on it; nothing here uses it."""

GCLOUD_COMMAND = (
    "gcloud auth application-default login --scopes="
    f"openid,{_CLOUD_SCOPE},{EMAIL_SCOPE},{COLAB_SCOPE}"
)

CLIENT_AGENT = "colabdev"
"""Our own name, never another client's. Unverified: that unknown names are let in."""

XSSI_PREFIX = ")]}'"
COMMON_QUERY = {"authuser": "0"}
AGENT_HEADER = {"X-Colab-Client-Agent": CLIENT_AGENT}
XSRF_HEADER = "X-Goog-Colab-Token"
PROXY_TOKEN_HEADER = "X-Colab-Runtime-Proxy-Token"
PROXY_TOKEN_QUERY = "colab-runtime-proxy-token"
SSH_KEY_HEADER = "X-Colab-Ssh-Pubkey"

NOTEBOOK_HASH_LENGTH = 44

HOURLY_RATES: Mapping[str, float] = {
    "none": 0.08,
    "T4": 1.07,
    "L4": 1.54,
    "A100": 5.3,
    "G4": 8.9,
}
"""Compute units per hour, as users measured them. Unverified: they change."""

LIFETIME_S = 12 * 3600
LONGEST_LIFETIME_S = 24 * 3600
"""How long Colab lets a runtime live; the longer one with Pro+. Unverified: it may end it before."""

FREE_TIER_TERMS = """\
Colab's FAQ forbids on runtimes that are free of charge, which is without a positive balance of
compute units: remote control such as SSH shells and remote desktops, and working mainly through
another interface than the notebook. Google may end such a runtime at any time without a warning.
On every runtime it forbids: hosting files or web services that have nothing to do with interactive
computing, connecting to remote proxies, mining, password cracking, and several accounts to get
around limits. With a plan that is paid for and a positive balance SSH is allowed.
  https://research.google.com/colaboratory/faq.html#limitations-and-restrictions"""


@dataclass(frozen=True, slots=True)
class Hosts:
    """Where Google answers; each without a slash at its end."""

    colab: str
    consent: str
    """Its `/o/oauth2/v2/auth` is the page that asks the user."""
    oauth: str
    """Has `/token`, `/tokeninfo` and `/revoke`."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Hosts:
        """Google's own, unless COLABDEV_COLAB_URL or COLABDEV_OAUTH_URL names a stand-in."""
        colab = environment.get("COLABDEV_COLAB_URL") or "https://colab.research.google.com"
        oauth = environment.get("COLABDEV_OAUTH_URL")
        return cls(
            colab=colab.rstrip("/"),
            consent=(oauth or "https://accounts.google.com").rstrip("/"),
            oauth=(oauth or "https://oauth2.googleapis.com").rstrip("/"),
        )

    @property
    def consent_url(self) -> str:
        return f"{self.consent}/o/oauth2/v2/auth"

    @property
    def token_url(self) -> str:
        return f"{self.oauth}/token"

    @property
    def tokeninfo_url(self) -> str:
        return f"{self.oauth}/tokeninfo"

    @property
    def revoke_url(self) -> str:
        return f"{self.oauth}/revoke"


def notebook_hash(request_id: str) -> str:
    """The name under which a runtime is asked for: asked again by it, Colab answers with the same."""
    text = re.sub(r"[^A-Za-z0-9_.]", "_", request_id)
    return text[:NOTEBOOK_HASH_LENGTH].ljust(NOTEBOOK_HASH_LENGTH, ".")
