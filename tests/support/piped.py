"""A project and a work dir on this computer, with the real agent at the other end of a socket pair.

Much faster than a sandbox, and it can be cut at any byte; what it lacks is SSH.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from colabdev.adapters.agent_client import encode_request, read_answer
from colabdev.adapters.ignore_files import compile_rules
from colabdev.adapters.project_rules import RuleSettings
from colabdev.adapters.project_tree import ProjectTree, TreeSettings
from colabdev.adapters.sync_memory import FileSyncMemory
from colabdev.agent import wire
from colabdev.agent.__main__ import serve
from colabdev.errors import RuntimeUnreachable
from colabdev.models import AgentHello, Machine, Phase, ProjectLink, RuntimeRecord, SshAddress
from colabdev.ports import SyncedProject
from colabdev.services.exchange import SyncOptions
from colabdev.services.small_steps import SmallSteps
from colabdev.services.sync import Syncer
from colabdev.services.sync_report import SyncReport
from colabdev.services.watch_line import WatchLine

Answer = tuple[Mapping[str, object], bytes]


@dataclass
class Pipe:
    """`ports.AgentStream` to an agent in a thread. After `cut_after` bytes, either way, it is cut."""

    cut_after: int = 10**12
    wire_bytes: int = 0
    trips: int = 0
    """How often an answer was waited for; questions that were asked before share it."""
    hello: AgentHello = field(default_factory=lambda: AgentHello(1, "3", 1))

    def __post_init__(self) -> None:
        self._waits = False
        self._ours, theirs = socket.socketpair()
        self._agent = threading.Thread(target=self._serve, args=(theirs,), daemon=True)
        self._agent.start()
        self._incoming = self._ours.makefile("rb")
        wire.read_frame(self._incoming.read)

    @staticmethod
    def _serve(theirs: socket.socket) -> None:
        # Cut or killed, which is what it is for, it cannot say the rest.
        with (
            suppress(BaseException),
            theirs,
            theirs.makefile("rb") as requests,
            theirs.makefile("wb") as answers,
        ):
            serve(requests, answers)

    def request(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> Answer:
        self.ask(kind, arguments, body)
        return self.answer(kind)

    def ask(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> None:
        self._waits = True
        self._send(encode_request(kind, arguments, body))

    def stream(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> Iterator[Answer]:
        yield self.request(kind, arguments, body)
        while True:
            yield self.answer(kind)

    def send(self, header: Mapping[str, object], body: bytes = b"") -> None:
        self._send(wire.encode(dict(header), body))

    def upload(
        self, kind: str, arguments: Mapping[str, object], frames: Iterable[wire.Frame]
    ) -> Answer:
        self._waits = True
        self._send(encode_request(kind, arguments))
        for frame in frames:
            self._send(wire.encode(*frame))
        return self.answer(kind)

    def close(self) -> None:
        """Returns when the agent has ended: it may still have been at work."""
        self._ours.shutdown(socket.SHUT_RDWR)
        self._incoming.close()
        self._ours.close()
        self._agent.join(30)
        assert not self._agent.is_alive(), "the agent hangs"

    def answer(self, kind: str) -> Answer:
        self.trips += self._waits
        self._waits = False
        try:
            return read_answer(self._read, kind)
        except OSError as exc:
            raise RuntimeUnreachable(str(exc)) from exc

    def _read(self, count: int) -> bytes:
        data = self._incoming.read(min(count, self.cut_after - self.wire_bytes))
        self._count(len(data))
        return data

    def _send(self, data: bytes) -> None:
        fits = data[: max(self.cut_after - self.wire_bytes, 0)]
        try:
            self._ours.sendall(fits)
        except OSError as exc:
            raise RuntimeUnreachable(str(exc)) from exc
        self._count(len(fits))

    def _count(self, count: int) -> None:
        self.wire_bytes += count
        if self.wire_bytes >= self.cut_after:
            raise RuntimeUnreachable("cut")


@dataclass
class PipedProject:
    """One project, here in `local` and there in `remote`."""

    root: Path
    outputs: tuple[str, ...] = ()
    max_bytes: int = 10**9
    cut_after: int = 10**12
    pipes: list[Pipe] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.local.mkdir(parents=True)
        self.remote.mkdir(parents=True)
        (self.remote / ".colabdev").mkdir()  # As `connect` makes it.

    @property
    def local(self) -> Path:
        return self.root / "here" / "digits"

    @property
    def remote(self) -> Path:
        return self.root / "there" / "digits"

    def sync(self, options: SyncOptions | None = None, pulled: str | None = None) -> SyncReport:
        """One sync, with everything read anew, as by a command."""
        return self.sync_opened(self.open(), options, pulled)

    def open(self) -> SyncedProject:
        """The project, with nothing read yet."""
        compiled = TreeSettings(
            self.root / "indexes", self.max_bytes, compile_rules, RuleSettings((), self.outputs)
        )
        tree = ProjectTree(self.local, compiled)
        memory = FileSyncMemory(tree.cache_prefix)
        return SyncedProject(str(self.local), "digits", tree, memory, self.max_bytes)

    def sync_opened(
        self, project: SyncedProject, options: SyncOptions | None = None, pulled: str | None = None
    ) -> SyncReport:
        """One sync of what `open` gave."""
        options = options or SyncOptions(force=True)
        record = self._record()
        return self._syncer().sync_project(record, project, options, lambda step: None, pulled)

    def steps(self, project: SyncedProject) -> tuple[Pipe, SmallSteps]:
        """Small steps from the last sync on, and the agent that watches for them."""
        pipe = self.agent()
        line = WatchLine(pipe, self._syncer().place(self._record(), project))
        listened = threading.Event()

        def listen() -> None:
            with suppress(RuntimeUnreachable, ValueError):
                line.listen(lambda steps: listened.set(), lambda sentence: None)

        threading.Thread(target=listen, daemon=True).start()
        assert listened.wait(10), "the agent does not watch"
        return pipe, SmallSteps(project, "box", str(self.remote), line)

    def _syncer(self) -> Syncer:
        return Syncer(
            store=self,  # type: ignore[arg-type]
            keepers=self,  # type: ignore[arg-type]
            computer_id=lambda: "mine",
            meter=lambda word, done, total: None,
        )

    def ensure(self, name: str) -> PipedProject:
        return self

    def agent(self, name: str = "") -> Pipe:
        self.pipes.append(Pipe(self.cut_after))
        return self.pipes[-1]

    def _record(self) -> RuntimeRecord:
        now = datetime.now(UTC)
        address = SshAddress("127.0.0.1", 1, "me", "key")
        content = os.fspath(self.remote.parent)
        return RuntimeRecord(
            *("box", "local", "request", now),
            phase=Phase.UP,
            machine=Machine(address, content, None, now),
            projects=(ProjectLink(str(self.local), str(self.remote), now),),
        )

    def without_memory(self) -> PipedProject:
        """The same files, with nothing remembered here."""
        for file in (self.root / "indexes").glob("*"):
            if file.is_file():
                file.unlink()
        return self
