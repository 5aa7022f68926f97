"""What the one cell of a notebook does, in a browser's Colab: an SSH server of ours, a tunnel to it, and
the code that the user types on their computer. Run twice it has run once.

`core/notebook_cell.py` puts this and the modules that it needs into the cell.
"""

from __future__ import annotations

import importlib
import os
import secrets
import sys
import time
from typing import Any, Dict, Iterator, Optional

from . import cloudflared, colab_vm, connection_code

DRIVE_MOUNT = "/content/drive"
LIFETIME_S = 24 * 3600
"""No machine of Colab's gets older, so no code is good for longer."""
_LOOK_S = 0.5


def main(public_key: str, settings: Dict[str, Any], mount_drive: bool, stay: bool) -> None:
    """Print the code, and with `stay` each later one, until it is interrupted.

    `settings`: `tunnel`, and what that one needs.
    """
    drive = mount_drive and _mount()
    told = colab_vm.main({"public_key": public_key})
    _say(", ".join("%s %.1f s" % (name, seconds) for name, seconds in told["steps"]))
    machine = _machine()
    since = int(time.time())
    try:
        for host, port in _addresses(settings, told["port"]):
            code = connection_code.format_code(
                {
                    "tunnel": settings["tunnel"],
                    "host": host,
                    "port": port,
                    "host_key": told["host_key"],
                    "machine": machine,
                    "since": since,
                    "expires": since + LIFETIME_S,
                    "drive": drive,
                }
            )
            _say(
                "type this on your computer:\n\n    colabdev connect --provider notebook --code "
                + code
            )
            if not stay:
                return
            _say("this cell stays, and says it when the address changes")
    except KeyboardInterrupt:
        _say("interrupted; the SSH server and the tunnel go on")


def _mount() -> bool:
    """Mount Drive, for which the user is asked in the browser; a machine without is of use, too."""
    try:
        importlib.import_module("google.colab.drive").mount(DRIVE_MOUNT)
    except Exception as exc:  # noqa: BLE001  Whatever is wrong with it is the user's to read.
        _say("Drive is not mounted (%s); nothing of this machine is kept there" % exc)
        return False
    return os.path.isdir(os.path.join(DRIVE_MOUNT, "MyDrive"))


def _machine() -> str:
    """A name of this machine, drawn once."""
    known = colab_vm.read("machine").strip()
    if not known:
        known = secrets.token_hex(8)
        colab_vm.write("machine", known)
    return known


def _addresses(settings: Dict[str, Any], port: int) -> Iterator[Any]:
    """Host and port of the tunnel's end, at once and whenever they change."""
    if settings["tunnel"] != "cloudflared":
        raise ValueError("this cell knows no tunnel %r" % settings["tunnel"])
    place = cloudflared.Place(os.path.expanduser(cloudflared.FOLDER))
    cloudflared.want(place, port, settings["cloudflared_url"])
    said: Optional[str] = None
    complained = ""
    while True:
        cloudflared.revive(place, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        told = cloudflared.describe(place.read(place.state))
        problem = told.get("problem", {}).get("message", "")
        if problem and problem != complained:
            _say(problem)
        complained = problem
        if told.get("host", said) != said:
            said = told["host"]
            yield said, cloudflared.PORT
        time.sleep(_LOOK_S)


def _say(text: str) -> None:
    sys.stdout.write("colabdev: %s\n" % text)
    sys.stdout.flush()
