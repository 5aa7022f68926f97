"""The stand-in's composition root: `python -m tests.support.colab_server --state DIR`.

Prints one line, `{"base_url", "token", "control_url"}`, when it can be used, and serves until it is
ended; then nothing is left of it but files in DIR.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

from tests.support.colab_server.accounts import DEFAULT_CLIENT, DEFAULT_EMAIL
from tests.support.colab_server.control import Control
from tests.support.colab_server.drive_api import DriveApi
from tests.support.colab_server.oauth import OAuth
from tests.support.colab_server.runtimes import Runtimes
from tests.support.colab_server.sites import open_site
from tests.support.colab_server.tun import Tun
from tests.support.colab_server.world import World


async def serve(state: Path) -> None:
    """Until SIGTERM or SIGINT."""
    world = World(state)
    runtimes = Runtimes(world)
    apis = [*Tun(world, runtimes).routes(), *OAuth(world).routes(), *DriveApi(world).routes()]
    google = await open_site(apis, world.journal, "google")
    world.base_url = google.url
    control = await open_site(Control(world, runtimes).routes(), None, "control")
    grant = world.accounts.grant(DEFAULT_EMAIL, DEFAULT_CLIENT, None)
    started = {
        "base_url": google.url,
        "token": world.accounts.issue_access(grant),
        "control_url": control.url,
    }
    reaper = asyncio.create_task(runtimes.reap())
    print(json.dumps(started), flush=True)
    try:
        await _asked_to_end()
    finally:
        reaper.cancel()
        await asyncio.gather(reaper, return_exceptions=True)
        await runtimes.close()
        await asyncio.gather(google.close(), control.close())


async def _asked_to_end() -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="tests.support.colab_server")
    parser.add_argument("--state", required=True, type=Path, help="a directory of its own, empty")
    state: Path = parser.parse_args(argv).state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        parser.error("a machine needs namespaces and mounts of its own, which only root can make")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(state))


if __name__ == "__main__":
    main(sys.argv[1:])
