"""A runtime behind a quick tunnel of Cloudflare's. The program is a stand-in, on both sides."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.cloudflared import QuickTunnels
from tests.support.house import House
from tests.support.waiting import wait_until


@pytest.fixture
def tunnels(tmp_path: Path) -> Iterator[QuickTunnels]:
    with closing(QuickTunnels(tmp_path / "the program's folder")) as tunnels:
        yield tunnels


@pytest.fixture
def house(tmp_path: Path, tunnels: QuickTunnels) -> Iterator[House]:
    with House(tmp_path) as house:
        house.environment |= {
            "PATH": f"{tunnels.program.parent}{os.pathsep}{house.environment['PATH']}",
            "COLABDEV_CLOUDFLARED_URL": tunnels.download_url,
        }
        yield house


def ssh(house: House, *words: str) -> str:
    """What the system's ssh gets by our host entry."""
    done = subprocess.run(
        ["ssh", "-F", str(house.ssh_files.config_file), "local", *words],
        env=house.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout or done.stderr


def test_everything_goes_by_the_tunnel_and_follows_its_name(
    house: House, tunnels: QuickTunnels
) -> None:
    done = house.colabdev("connect", "--provider", "local", "--tunnel", "cloudflared")
    assert done.returncode == 0, done.stderr
    assert "tunnel     cloudflared, because you asked for it" in done.stdout
    (first,) = tunnels.names()
    assert ssh(house, "echo by it") == "by it\n"

    os.kill(tunnels.pid(first), signal.SIGKILL)

    def second() -> str:
        names = set(tunnels.names()) - {first}
        return names.pop() if names else ""

    wait_until(lambda: second() in house.ssh_files.stanza("local") and second(), message="no entry")
    assert ssh(house, "echo again") == "again\n"
    done = house.colabdev("ssh", "local", "--", "echo", "ours")
    assert done.stdout == "ours\n", done.stderr

    done = house.colabdev("connect", "--tunnel", "direct")
    assert done.returncode == 0, done.stderr
    assert "trycloudflare" not in house.ssh_files.stanza("local")
    wait_until(lambda: not tunnels.is_up(second()), message="the tunnel stays open")


def test_computer_without_the_program_is_told_how_to_get_it(house: House) -> None:
    nowhere = house.home / "empty"
    nowhere.mkdir()
    done = house.colabdev(
        "connect", "--provider", "local", "--tunnel", "cloudflared", env={"PATH": str(nowhere)}
    )
    assert done.returncode == 2
    assert "needs the program cloudflared on this computer" in done.stderr
    assert "https://developers.cloudflare.com/" in done.stderr
    assert house.store.names() == []
