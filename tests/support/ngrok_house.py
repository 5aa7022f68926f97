"""A house whose local runtime is reached by ngrok: the real SDK there, a stand-in for its edge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from colabdev.models.tunnels import Endpoint
from tests.support.house import House
from tests.support.ngrok_edge import TOKEN, NgrokEdge
from tests.support.waiting import wait_until

TIMING = {
    "beat_s": 1,
    "tolerance_s": 1,
    "silent_s": 4,
    "cut_s": 3,
    "first_s": 0.2,
    "cap_s": 0.5,
    "steady_s": 3,
    "look_s": 1,
}
CONNECT = ("connect", "local", "--provider", "local", "--python", sys.executable)


@contextmanager
def ngrok_house(root: Path) -> Iterator[tuple[House, NgrokEdge]]:
    """Not connected yet; the token is where `auth ngrok` keeps it."""
    with NgrokEdge(root) as edge, House(root / "house") as house:
        house.environment |= edge.variables
        house.environment["COLABDEV_TUNNEL_TIMING"] = json.dumps(TIMING)
        subprocess.run(
            [sys.executable, "-m", "colabdev", "auth", "ngrok"],
            env=house.environment,
            input=TOKEN.encode(),
            capture_output=True,
            check=True,
            timeout=60,
        )
        yield house, edge


def runtime_home(house: House) -> Path:
    """The login directory of the runtime."""
    machine = house.record().machine
    assert machine is not None
    return Path(machine.content_dir).parent / "root"


def tunnel_state(house: House) -> dict[str, Any]:
    """What the supervisor on the runtime says of the tunnel."""
    state: dict[str, Any] = json.loads(
        (runtime_home(house) / ".colabdev/tunnel/state.json").read_text()
    )
    return state


def endpoint(house: House) -> Endpoint | None:
    """Where the record says that the tunnel ends."""
    tunnel = house.record().tunnel
    return tunnel.endpoint if tunnel else None


def stop_session(house: House) -> None:
    """SIGSTOP the SDK's process: from now on its path is silent."""
    os.kill(int(tunnel_state(house)["child"]), signal.SIGSTOP)


def kill_supervisor(house: House) -> None:
    """kill -9."""
    os.kill(int(tunnel_state(house)["process"]["pid"]), signal.SIGKILL)


def wait_for_new_address(house: House, before: Endpoint | None) -> Endpoint:
    """Until the record has another address and the keeper is connected by it."""

    def moved() -> Endpoint | None:
        now = endpoint(house)
        return now if now != before else None

    found = wait_until(moved, timeout_s=20, message="the tunnel has another address")
    assert found is not None
    house.keeper().wait_ready(20)
    return found
