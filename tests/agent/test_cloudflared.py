"""The daemon that keeps cloudflared running, asked by an agent. The program is a stand-in."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.agent_archive import build_agent
from colabdev.adapters.agent_client import start_agent
from colabdev.adapters.processes import LocalTransport
from colabdev.agent import jobdir
from tests.support.agents import Talk
from tests.support.cloudflared import QuickTunnels
from tests.support.waiting import wait_until

RATE_LIMIT = (
    "2026-11-21T08:00:00Z ERR Error unmarshaling QuickTunnel response: error code: 1015 "
    'error="invalid character" status_code="429 Too Many Requests"'
)
PORT = 9


class Runtime:
    """A home in which agents run."""

    def __init__(self, home: Path) -> None:
        self._environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
        self._state = home / ".colabdev/cloudflared/state.json"

    def agent(self) -> Talk:
        running = start_agent(LocalTransport(environment=self._environment), build_agent())
        return Talk(running.process, running.hello.pid)

    def close(self) -> None:
        """End the tunnel."""
        agent = self.agent()
        agent.request("tunnels.close")
        agent.process.close()

    def daemon(self) -> int:
        state = jobdir.read_document(str(self._state))
        assert state is not None
        return int(state["daemon"]["pid"])


class Held:
    """An agent that holds the tunnel."""

    def __init__(self, runtime: Runtime, url: str) -> None:
        self._talk = runtime.agent()
        self._frames = self._talk.stream("cloudflared.hold", port=PORT, url=url)

    def close(self) -> None:
        self._talk.process.close()

    def until(self, key: str) -> Mapping[str, Any]:
        """The next word about that."""
        return next(told for told, _ in self._frames if key in told)


@pytest.fixture
def tunnels(tmp_path: Path) -> QuickTunnels:
    return QuickTunnels(tmp_path / "program")


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    home = tmp_path / "home"
    home.mkdir()
    runtime = Runtime(home)
    yield runtime
    runtime.close()


def test_tunnel_stays_one_whoever_dies_and_ends_when_told(
    runtime: Runtime, tunnels: QuickTunnels
) -> None:
    tunnels.refuse(RATE_LIMIT)
    with closing(Held(runtime, tunnels.download_url)) as held:
        problem = held.until("problem")["problem"]
        assert problem["message"].startswith("Cloudflare gives this machine no quick tunnel now")
        assert problem["waiting_helps"]
        tunnels.refuse("")
        first = held.until("host")["host"]
        assert tunnels.names() == [first]

    with closing(Held(runtime, tunnels.download_url)) as held:
        assert held.until("host")["host"] == first, "it outlives the agent"
        os.kill(runtime.daemon(), signal.SIGKILL)
        second = held.until("host")["host"]
        assert second != first
        wait_until(lambda: not tunnels.is_up(first), message="the first program stays")
        assert tunnels.is_up(second)

    runtime.close()
    assert not tunnels.is_up(second)


def test_program_that_cannot_be_fetched_is_named(runtime: Runtime, tmp_path: Path) -> None:
    missing = (tmp_path / "missing-{arch}").as_uri().replace("%7B", "{").replace("%7D", "}")
    with closing(Held(runtime, missing)) as held:
        message = held.until("problem")["problem"]["message"]
    assert "cannot have cloudflared there: cannot fetch file://" in message
    assert "{arch}" not in message
