"""Ports of this computer that lead to a runtime, for as long as somebody waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from colabdev.core.forwards import Forward
from colabdev.core.workdirs import usable_machine
from colabdev.errors import ColabdevError, RuntimeLost, RuntimeUnreachable
from colabdev.models import RuntimeRecord
from colabdev.ports import ByteStream, Keepers, LocalPort, Progress, RuntimeStore

_LOOK_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class OpenForward:
    """A forward, and the local port that it has."""

    forward: Forward
    local: LocalPort

    @property
    def is_moved(self) -> bool:
        """The port that was asked for is somebody else's."""
        return self.forward.local_port not in (0, self.local.port)


class Forwards:
    """Over the keeper's connection: no further login, on every system, and what is opened after a cut
    waits until the keeper is connected again, to a new address or a new machine, too."""

    def __init__(
        self, *, store: RuntimeStore, keepers: Keepers, listen: Callable[[int], LocalPort]
    ) -> None:
        self._store = store
        self._keepers = keepers
        self._listen = listen

    @contextmanager
    def reserved(
        self, forwards: Sequence[Forward], progress: Progress
    ) -> Iterator[Sequence[OpenForward]]:
        """Inside, the local ports are ours. Nothing is asked of any runtime."""
        found: list[OpenForward] = []
        try:
            for forward in forwards:
                found.append(OpenForward(forward, self._listen(forward.local_port)))
                if found[-1].is_moved:
                    progress(
                        f"port {forward.local_port} of this computer is taken; "
                        f"using {found[-1].local.port}"
                    )
            yield found
        finally:
            for one in found:
                one.local.close()

    def serve(
        self, runtime: RuntimeRecord, forwards: Sequence[OpenForward], progress: Progress
    ) -> None:
        """Lead there whoever connects, from now on."""
        usable_machine(runtime)
        self._keepers.ensure(runtime.name)
        complaints = _Complaints(progress)
        for one in forwards:
            one.local.serve(self._way_to(runtime.name, one.forward, complaints), complaints.say)

    def wait(self, name: str) -> None:
        """Until the runtime is released, which is an error; a lost one may come back."""
        resting = threading.Event()
        while self._store.load(name) is not None:
            resting.wait(_LOOK_INTERVAL_S)
        raise _released(name)

    def open(self, name: str, host: str, port: int) -> ByteStream:
        """A stream to host:port as seen from the runtime; waits a while for one that is cut off."""
        record = self._store.load(name)
        if record is None:
            raise _released(name)
        usable_machine(record)
        try:
            return self._keepers.ensure(name).open_tcp(host, port)
        except RuntimeUnreachable:
            return self._keepers.ensure(name).open_tcp(
                host, port
            )  # The keeper itself may have gone.

    def _way_to(
        self, name: str, forward: Forward, complaints: _Complaints
    ) -> Callable[[], ByteStream]:
        def open_stream() -> ByteStream:
            stream = self.open(name, forward.host, forward.port)
            complaints.forget()
            return stream

        return open_stream


class _Complaints:
    """Says what keeps connections from being made, once: a browser asks again every second."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._last = ""

    def say(self, error: ColabdevError) -> None:
        if error.message != self._last:
            self._last = error.message
            self._progress(f"{error.message}; {error.hint}")

    def forget(self) -> None:
        self._last = ""


def _released(name: str) -> RuntimeLost:
    return RuntimeLost(
        f"the runtime {name!r} was released meanwhile", hint=f"colabdev connect {name}"
    )
