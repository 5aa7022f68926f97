"""Fabric on a way to the runtime, when it is installed: `pip install fabric`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

from tests.support.house import House

_PROGRAM = """
import sys
from fabric import Connection
host, port, user, key, line = sys.argv[1:]
connection = Connection(host, user, int(port), connect_kwargs={"key_filename": key})
ended = connection.run(line, warn=True, in_stream=False).exited
sys.exit(128 - ended if ended < 0 else ended)
"""


def fabric_command(house: House) -> Sequence[str]:
    """A program that runs the line behind it by Fabric, over a new connection; () without Fabric."""
    if importlib.util.find_spec("fabric") is None:
        print("bench run: no rows for Fabric, which is not installed", file=sys.stderr)
        return ()
    machine = house.record().machine
    assert machine is not None
    ssh = machine.ssh
    key = str(house.ssh_files.private_key_file)
    return [sys.executable, "-c", _PROGRAM, ssh.host, str(ssh.port), ssh.user, key]
