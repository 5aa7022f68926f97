"""A running agent, asked over its pipes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from colabdev.adapters.agent_client import encode_request, exchange, read_answer
from colabdev.adapters.processes import LocalProcess
from colabdev.agent import wire
from colabdev.ports import AgentStream

_SILENCE_S = 30


@dataclass
class Talk:
    """The client's end of it."""

    process: LocalProcess
    pid: int
    _buffer: bytes = b""

    def request(self, kind: str, **arguments: object) -> Mapping[str, Any]:
        return exchange(self.process.write, self._read, kind, arguments)[0]

    def next(self) -> tuple[Mapping[str, Any], bytes]:
        return read_answer(self._read, "next")

    def rest(self) -> tuple[bytes, Mapping[str, Any]]:
        """The log that still comes, and the status at its end."""
        log = b""
        while True:
            header, body = self.next()
            if "status" in header:
                return log, header["status"]
            log += body

    def stream(self, kind: str, **arguments: object) -> Iterator[tuple[Mapping[str, Any], bytes]]:
        """The frames of an answer, the last of which says `end`."""
        frame = exchange(self.process.write, self._read, kind, arguments)
        yield frame
        while not frame[0].get("end"):
            frame = read_answer(self._read, kind)
            yield frame

    def upload(self, kind: str, content: bytes, **arguments: object) -> Mapping[str, Any]:
        """A request that is followed by pieces of `content`, and `end`; its answer."""
        self.process.write(encode_request(kind, arguments))
        for begin in range(0, len(content), 1000):
            self.process.write(wire.encode({}, content[begin : begin + 1000]))
        self.process.write(wire.encode({"end": True}, b""))
        return read_answer(self._read, kind)[0]

    def stream_port(self) -> AgentStream:
        """As services ask an agent."""
        return cast("AgentStream", _Port(self))

    def exchange(
        self, kind: str, arguments: Mapping[str, object] | None, body: bytes = b""
    ) -> tuple[Mapping[str, Any], bytes]:
        """One request, and all of the first frame of its answer."""
        return exchange(self.process.write, self._read, kind, arguments, body)

    def _read(self, count: int) -> bytes:
        while not self._buffer:
            output = self.process.read(_SILENCE_S)
            if output is None:
                return b""
            assert output.pipe == "stdout", output
            self._buffer = output.data
        piece, self._buffer = self._buffer[:count], self._buffer[count:]
        return piece


@dataclass(frozen=True)
class _Port:
    """What `ports.AgentStream` asks, as far as checkpoints need it."""

    talk: Talk

    def request(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> tuple[Mapping[str, Any], bytes]:
        return self.talk.exchange(kind, arguments, body)

    def stream(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> Iterator[tuple[Mapping[str, Any], bytes]]:
        yield self.talk.exchange(kind, arguments, body)
        while True:
            yield self.talk.next()
