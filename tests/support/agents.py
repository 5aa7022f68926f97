"""A running agent, asked over its pipes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from colabdev.adapters.agent_client import exchange, read_answer
from colabdev.adapters.processes import LocalProcess

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

    def _read(self, count: int) -> bytes:
        while not self._buffer:
            output = self.process.read(_SILENCE_S)
            if output is None:
                return b""
            assert output.pipe == "stdout", output
            self._buffer = output.data
        piece, self._buffer = self._buffer[:count], self._buffer[count:]
        return piece
