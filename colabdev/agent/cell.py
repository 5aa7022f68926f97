"""What the one cell of a notebook does, in a browser's Colab: an SSH server of ours, a tunnel to it, and
the code that the user types on their computer. Run twice it has run once.

`core/notebook_cell.py` puts this and the modules that it needs into the cell.
"""

from __future__ import annotations

import getpass
import importlib
import os
import secrets
import sys
import time
from typing import Any, Dict, Iterator

from . import colab_vm, connection_code, daemons, tunnels
from .tunnel_files import Place, name_of

DRIVE_MOUNT = "/content/drive"
LIFETIME_S = 24 * 3600
"""No machine of Colab's gets older, so no code is good for longer."""
_LOOK_S = 0.5


def main(public_key: str, settings: Dict[str, Any], mount_drive: bool, stay: bool) -> None:
    """Print the code, and with `stay` each later one, until it is interrupted.

    `settings`: `tunnel`, its word; `asked` of its supervisor (`tunnel.py`), but for the port; and
    `secret`, the name of what it needs, or "".
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
    asked = dict(settings["asked"], settings=dict(settings["asked"]["settings"], port=port))
    place, name = Place(os.path.expanduser("~")), name_of(asked)
    agent = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    secret = _secret(settings["secret"])
    tunnels.end_another(place, name)
    said: Any = None
    complained = ""
    while True:
        if not daemons.is_held(place.lock):
            tunnels.start(place, asked, secret, agent)
        told = place.read() or {}
        if told.get("asked") == name:
            why = str(told.get("why") or "")
            if why and why != complained:
                _say("the tunnel is down: %s" % why)
            complained = why
            end = told.get("endpoint")
            if end and end != said:
                said = end
                yield end["host"], end["port"]
        time.sleep(_LOOK_S)


def _secret(name: str) -> bytes:
    """The secret of that name that the user keeps with Colab, or types; none without a name."""
    if not name:
        return b""
    try:
        found = importlib.import_module("google.colab.userdata").get(name)
    except Exception:  # noqa: BLE001  There is none, or this notebook may not have it.
        found = getpass.getpass("%s (not shown, not kept): " % name)
    return str(found).strip().encode()


def _say(text: str) -> None:
    sys.stdout.write("colabdev: %s\n" % text)
    sys.stdout.flush()
