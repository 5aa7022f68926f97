"""cloudflared under the agent's supervisor. The program is a stand-in."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from colabdev.adapters.agent_archive import build_agent
from colabdev.adapters.agent_client import start_agent
from colabdev.adapters.processes import LocalTransport
from colabdev.core.cloudflared import URL_VARIABLE, explain_cloudflared
from colabdev.tunnels.cloudflared import asked_of_runtime
from colabdev.tunnels.states import parse_state
from tests.support.agents import Talk
from tests.support.cloudflared import QuickTunnels
from tests.support.waiting import wait_until

RATE_LIMIT = (
    "2026-11-21T08:00:00Z ERR Error unmarshaling QuickTunnel response: error code: 1015 "
    'error="invalid character" status_code="429 Too Many Requests"'
)


class Held:
    """An agent that holds a tunnel in a home of its own; `close` ends the tunnel, too."""

    def __init__(self, home: Path, url: str) -> None:
        home.mkdir(exist_ok=True)
        self._environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
        self._talk = self._agent()
        asked = asked_of_runtime({URL_VARIABLE: url}, 9, {"first_s": 0.1})
        self._frames = self._talk.stream("tunnel.hold", asked=asked)

    def until(self, wanted: Callable[[Mapping[str, Any]], object]) -> Mapping[str, Any]:
        """What it says first that is so."""
        return next(told["state"] for told, _ in self._frames if wanted(told["state"]))

    def close(self) -> None:
        self._talk.process.close()
        agent = self._agent()
        agent.request("tunnel.close")
        agent.process.close()

    def _agent(self) -> Talk:
        running = start_agent(LocalTransport(environment=self._environment), build_agent())
        return Talk(running.process, running.hello.pid)


@pytest.fixture
def tunnels(tmp_path: Path) -> Iterator[QuickTunnels]:
    with closing(QuickTunnels(tmp_path / "program")) as tunnels:
        yield tunnels


def test_tunnel_that_is_refused_or_dies_is_tried_again(
    tmp_path: Path, tunnels: QuickTunnels
) -> None:
    tunnels.refuse(RATE_LIMIT)
    with closing(Held(tmp_path / "home", tunnels.download_url)) as held:
        problem = parse_state(held.until(lambda told: told.get("why")), explain_cloudflared).problem
        assert problem is not None
        assert problem.message.startswith("Cloudflare gives this runtime no quick tunnel now")
        tunnels.refuse("")
        first = held.until(lambda told: told.get("endpoint"))["endpoint"]["host"]
        assert tunnels.names() == [first]
        os.kill(tunnels.pid(first), signal.SIGKILL)
        end = held.until(lambda told: (told.get("endpoint") or {}).get("host", first) != first)
        second = end["endpoint"]["host"]
        assert tunnels.names() == [first, second]
    wait_until(lambda: not tunnels.is_up(second), message="it outlives its end")


def test_program_that_cannot_be_fetched_is_named(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/missing-{{arch}}"
    with closing(Held(tmp_path / "home", url)) as held:
        why = held.until(lambda told: told.get("why"))["why"]
    assert "cannot have cloudflared there: cannot fetch file://" in why
    assert "{arch}" not in why
