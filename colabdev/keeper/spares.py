"""Running agents kept at hand, so that a request costs one round trip.

Opening a stream costs two round trips and a process start; that is paid beforehand. Whenever an agent
is handed out the next one is started.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from colabdev.adapters.agent_client import RunningAgent
from colabdev.adapters.ssh import SshConnection, SshProcess
from colabdev.errors import ColabdevError, RuntimeUnreachable
from colabdev.models import AgentHello

log = logging.getLogger(__name__)

Agent = RunningAgent[SshProcess]


class AgentSpares:
    """At least one running agent of the present connection, ready to be handed out.

    `start` is called in a thread of its own for each agent; a failure is kept and raised to whoever
    waits, and the next `take` tries again.
    """

    def __init__(self, start: Callable[[SshConnection], Agent]) -> None:
        self._start = start
        self._changed = threading.Condition()
        self._connection: SshConnection | None = None
        self._ready: deque[Agent] = deque()
        self._starting = 0
        self._waiting = 0
        self.error: ColabdevError | None = None
        self.hello: AgentHello | None = None

    def use(self, connection: SshConnection) -> None:
        """Forget the agents of the connection before and begin with this one."""
        with self._changed:
            stale = list(self._ready)
            self._ready.clear()
            self._connection, self.error, self.hello = connection, None, None
            self._starting = 0
            self._refill()
        for agent in stale:
            agent.process.close()

    def take(self, timeout_s: float) -> Agent:
        """A running agent, ours alone from now on; raises what keeps one from starting."""
        with self._changed:
            agent = self._wait_for_one(timeout_s)
            self._ready.remove(agent)
            self._refill()
            return agent

    def peek(self, timeout_s: float) -> AgentHello:
        """What the next agent said of itself, once there is one."""
        with self._changed:
            return self._wait_for_one(timeout_s).hello

    def _wait_for_one(self, timeout_s: float) -> Agent:
        deadline = time.monotonic() + timeout_s
        self.error = None
        self._waiting += 1
        try:
            while True:
                self._drop_dead()
                if self._ready:
                    return self._ready[0]
                if self.error is not None:
                    raise self.error
                self._refill()
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise RuntimeUnreachable(
                        f"no agent started on the runtime within {timeout_s:.0f} s",
                        hint="colabdev status says how it stands",
                    )
                self._changed.wait(left_s)
        finally:
            self._waiting -= 1

    def _drop_dead(self) -> None:
        while self._ready and not self._ready[0].process.is_idle():
            self._ready.popleft().process.close()

    def _refill(self) -> None:
        wanted = max(self._waiting, 1)
        if self._connection is None:
            return
        for _ in range(wanted - len(self._ready) - self._starting):
            self._starting += 1
            threading.Thread(target=self._add, args=(self._connection,), daemon=True).start()

    def _add(self, connection: SshConnection) -> None:
        agent: Agent | None = None
        error: ColabdevError | None = None
        try:
            agent = self._start(connection)
        except ColabdevError as exc:
            log.warning("cannot start an agent: %s", exc.message)
            error = exc
        except Exception:  # A task's boundary: whoever waits for this agent must hear of it.
            log.exception("bug while starting an agent")
            error = ColabdevError(
                "cannot start an agent: a bug in colabdev", hint="colabdev doctor shows the log"
            )
        with self._changed:
            if connection is self._connection:
                self._starting -= 1
                self.error = error
                if agent is not None:
                    self.hello = agent.hello
                    self._ready.append(agent)
                    agent = None
            self._changed.notify_all()
        if agent is not None:
            agent.process.close()  # Its connection was replaced while it started.
