"""Ways to a runtime that are open, and the ports here that lead to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from colabdev.agent.changes import Frame
from colabdev.errors import ColabdevError
from colabdev.models import AgentHello


class AgentStream(Protocol):
    """A running agent on the runtime, ours alone. One request at a time."""

    @property
    def hello(self) -> AgentHello:
        """What the agent said of itself."""

    def request(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> tuple[Mapping[str, object], bytes]:
        """Ask and wait for the answer: its values and its body. One round trip."""

    def ask(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> None:
        """Ask, and wait for nothing. Answers come in the order of the questions."""

    def answer(self, kind: str) -> tuple[Mapping[str, object], bytes]:
        """The next answer, which is to a question of that kind."""

    def stream(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> Iterator[tuple[Mapping[str, object], bytes]]:
        """Ask, and give each frame of the answer as it comes. The frames say which is the last; a
        reader that has enough before that closes the stream."""

    def send(self, header: Mapping[str, object], body: bytes = b"") -> None:
        """Add a frame to a request whose answer is being streamed; from another thread, too."""

    def upload(
        self, kind: str, arguments: Mapping[str, object], frames: Iterable[Frame]
    ) -> tuple[Mapping[str, object], bytes]:
        """Ask, send the frames after it, and wait for the answer. An agent that answers before their
        end is sent no more, and must be let go of then."""

    @property
    def wire_bytes(self) -> int:
        """How much was sent and received so far."""

    def close(self) -> None:
        """Let the agent end."""


class ByteStream(Protocol):
    """Bytes both ways, each direction until its own end, as TCP does. OSError when it breaks."""

    def send(self, data: bytes) -> None:
        """All of it."""

    def read_some(self, count: int) -> bytes:
        """What has arrived, at most `count` bytes; waits for something, b"" at the end."""

    def end_writing(self) -> None:
        """No more is sent; the other direction goes on."""

    def close(self) -> None:
        """End both directions; whoever reads in another thread wakes."""


class LocalPort(Protocol):
    """A port of this computer that is ours."""

    @property
    def port(self) -> int:
        """Its number."""

    def serve(
        self, open_stream: Callable[[], ByteStream], failed: Callable[[ColabdevError], None]
    ) -> None:
        """Join each client with a stream of its own, in threads, until `close`; a client whose stream
        cannot be opened is hung up on, and `failed` told why."""

    def close(self) -> None:
        """Take no more clients."""
