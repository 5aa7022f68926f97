"""Cloudflare's quick tunnels, as far as this computer has to do with them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from colabdev.models.tunnels import Remedy, TunnelProblem

DOWNLOAD_URL = (
    "https://github.com/cloudflare/cloudflared/releases/latest/download/cloudflared-linux-{arch}"
)
"""What a runtime takes; `COLABDEV_CLOUDFLARED_URL` says another one. `{arch}` is amd64 or arm64."""

URL_VARIABLE = "COLABDEV_CLOUDFLARED_URL"
PROGRAM = "cloudflared"
HOW_TO_INSTALL = {
    "win32": "winget install --id Cloudflare.cloudflared",
    "darwin": "brew install cloudflared",
}
DOWNLOADS_PAGE = (
    "https://developers.cloudflare.com/cloudflare-one/connections/connect-networks/downloads/"
)

_HOST = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.trycloudflare\.com")


def checked_host(host: str) -> str:
    """The name of a quick tunnel, as a runtime tells it; ValueError for any other text, because it is
    to stand in a command line here."""
    if not _HOST.fullmatch(host) or len(host) > 253:
        raise ValueError(f"{host!r} is not the name of a quick tunnel")
    return host


def access_command(program: str, host: str, *, windows: bool) -> str:
    """The shell command whose stdin and stdout lead to the tunnel's end: `cloudflared access ssh`.

    In a configuration of ssh a backslash is an escape, so Windows' paths have slashes.
    """
    words = ("access", "ssh", "--hostname", checked_host(host))
    if windows:
        path = program.replace("\\", "/")
        return " ".join((f'"{path}"' if " " in path else path, *words))
    return shlex.join((program, *words))


def download_url(environment: Mapping[str, str]) -> str:
    """Where a runtime gets the program."""
    return environment.get(URL_VARIABLE) or DOWNLOAD_URL


def explain_cloudflared(why: str, code: str) -> TunnelProblem:
    """A failure as the runtime's supervisor tells it, for the user."""
    if code == "429":
        return TunnelProblem(
            "Cloudflare gives this runtime no quick tunnel now, because too many were asked for; "
            "waiting helps",
            "wait some minutes, or use another tunnel: --tunnel ngrok",
            Remedy.WAITING,
        )
    return TunnelProblem(
        f"the cloudflared tunnel is down ({why}); waiting may help",
        "it is tried again by itself; if it never comes up: --tunnel ngrok",
        Remedy.WAITING,
    )


def how_to_install(platform: str) -> str:
    """What to type, or where to look, to have the program on a computer of this `sys.platform`."""
    return HOW_TO_INSTALL.get(platform, f"get it from {DOWNLOADS_PAGE}")
