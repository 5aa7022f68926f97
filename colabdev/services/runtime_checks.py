"""What `doctor` looks at on each runtime, and on the way there."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from colabdev.agent.wire import PROTOCOL
from colabdev.errors import ProtocolError
from colabdev.models import (
    AgentHello,
    KeeperAddress,
    Machine,
    RuntimeRecord,
    RuntimeState,
)
from colabdev.ports import Computer, Keepers, RuntimeStore
from colabdev.services.checks import Check, bad, warning, well
from colabdev.services.computer_checks import room
from colabdev.services.runtimes import Runtimes
from colabdev.services.safekeeping import Safekeeping

_CLOCK_TOLERANCE_S = 5.0
_PLACES = ("home", "jobs", "content")
"""A host of the user's own has no Drive, and is not taken away."""


class RuntimeChecks:
    """Looks at one runtime. A keeper that had ended is started again, as `status` does."""

    def __init__(
        self,
        *,
        store: RuntimeStore,
        runtimes: Runtimes,
        keepers: Keepers,
        computer: Computer,
        log_dir: Path,
    ) -> None:
        self._store = store
        self._runtimes = runtimes
        self._keepers = keepers
        self._computer = computer
        self._safekeeping = Safekeeping(keepers)
        self._log_dir = log_dir

    def check_runtime(self, record: RuntimeRecord) -> Iterator[Check]:
        """How it stands, its keeper, its agent, and what the agent sees there."""
        name = record.name
        status = self._runtimes.state_of(record)
        saw = status.state.value + (f": {status.detail}" if status.detail else "")
        if status.state is RuntimeState.READY:
            yield well(f"runtime {name}", saw)
        else:
            yield bad(f"runtime {name}", saw, f"colabdev connect {name}; {self._log_of(name)}")
        # Asked for again: it may have a keeper since just now.
        record = self._store.load(name) or record
        yield from self._check_keeper(record, status.state)
        if status.state is RuntimeState.READY and record.machine is not None:
            yield from self._check_inside(name, record.machine)
            yield from self._check_drive(record)

    def check_port(self, record: RuntimeRecord) -> Iterator[Check]:
        """Whether the runtime's SSH server can be reached from here."""
        address = record.ssh
        assert address is not None, "only such a one has an address"
        subject = f"port {record.name}"
        if address.proxy_command is not None:
            # From here its address may mean nothing, or another machine.
            yield well(subject, "only its ProxyCommand leads there; the keeper uses it")
            return
        try:
            self._computer.reach(address.host, address.port)
        except OSError as exc:
            saw = f"{address.host}:{address.port} cannot be reached: {exc}"
            yield bad(subject, saw, f"colabdev connect {record.name}")
        else:
            yield well(subject, f"{address.host}:{address.port} can be reached")

    def _check_keeper(self, record: RuntimeRecord, state: RuntimeState) -> Iterator[Check]:
        subject = f"keeper {record.name}"
        keeper = self._keepers.find(record)
        if keeper is not None and record.keeper is not None:
            yield well(subject, f"answers: {_shown(record.keeper)}")
        elif state in (RuntimeState.READY, RuntimeState.UNREACHABLE):
            saw = f"does not answer: {_shown(record.keeper)}" if record.keeper else "does not run"
            yield bad(subject, saw, f"colabdev connect {record.name}; {self._log_of(record.name)}")
        else:
            yield well(subject, "does not run, and is not needed")

    def _check_inside(self, name: str, machine: Machine) -> Iterator[Check]:
        agent = self._keepers.agent(name)
        try:
            yield _agent_check(name, agent.hello)
            named = {"content": machine.content_dir, "drive": machine.drive_dir}
            places = {label: path for label, path in named.items() if path is not None}
            before = time.time()
            seen, _ = agent.request("checkup", {"places": places})
            after = time.time()
        finally:
            agent.close()
        yield _clock_check(name, seen, before, after)
        is_own = machine.ssh.login is not None
        yield from _place_checks(name, seen, _PLACES if is_own else (*_PLACES, "drive"))

    def _check_drive(self, record: RuntimeRecord) -> Iterator[Check]:
        """What Drive has of each project there."""
        advice = f"colabdev sync tries again at once; colabdev ssh {record.name} shows that Drive"
        for link, saw, is_well in self._safekeeping.describe(record):
            subject = f"drive of {record.name}, {link.workdir}"
            yield well(subject, saw) if is_well else bad(subject, saw, advice)

    def _log_of(self, name: str) -> str:
        return f"its keeper's log: {self._log_dir / f'keeper-{name}.log'}"


def _shown(keeper: KeeperAddress) -> str:
    return f"process {keeper.pid}, version {keeper.version}"


def _agent_check(name: str, hello: AgentHello) -> Check:
    saw = f"Python {hello.python}, protocol {hello.protocol}"
    if hello.protocol != PROTOCOL:
        advice = f"colabdev connect {name} installs this version's"
        return bad(f"agent {name}", f"{saw}; this colabdev speaks {PROTOCOL}", advice)
    return well(f"agent {name}", saw)


def _clock_check(name: str, seen: Mapping[str, object], before: float, after: float) -> Check:
    """The runtime's clock was read at some moment between the two of ours."""
    there = seen.get("time")
    if not isinstance(there, (int, float)):
        raise ProtocolError(f"cannot compare clocks with {name!r}: the agent says {there!r}")
    ahead_s = there - min(max(there, before), after)
    if abs(ahead_s) > _CLOCK_TOLERANCE_S:
        saw = f"it is {ahead_s:+.0f} s beside this computer's"
        return warning(
            f"clock {name}", saw, "set the clock that is wrong by NTP; Colab's are right"
        )
    return well(f"clock {name}", "agrees with this computer's")


def _place_checks(name: str, seen: Mapping[str, Any], labels: Sequence[str]) -> Iterator[Check]:
    places = seen.get("places") or {}
    for label in labels:
        place = places.get(label)
        subject = f"{label} {name}"
        if place is None:
            advice = "what is to outlive this runtime has to be fetched from it"
            yield warning(subject, "Drive is not mounted", advice)
        elif not place["exists"]:
            if label != "jobs":
                yield bad(subject, f"{place['path']} is not there", f"colabdev connect {name}")
        elif not place["writable"]:
            advice = f"colabdev ssh {name}, and give write access there"
            yield bad(subject, f"{place['path']} cannot be written", advice)
        else:
            yield room(subject, place["path"], int(place["free_bytes"]))
