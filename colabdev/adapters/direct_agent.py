"""An agent that is asked over a connection of one's own, not through a keeper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing

from colabdev.adapters.agent_archive import AgentArchive
from colabdev.adapters.agent_client import encode_request, read_answer, start_agent
from colabdev.adapters.ssh import SshConnection
from colabdev.errors import RuntimeUnreachable

_LOOK_S = 1.0


class DirectAgent:
    """`ports.tunnels.AgentRequests`; the connection is ours, and ends with it."""

    def __init__(self, connection: SshConnection, archive: AgentArchive) -> None:
        self._connection = connection
        self._buffer = b""
        try:
            self._process = start_agent(connection, archive).process
        except BaseException:
            connection.close()
            raise

    def stream(
        self, kind: str, arguments: Mapping[str, object] | None = None, body: bytes = b""
    ) -> Iterator[tuple[Mapping[str, object], bytes]]:
        """Ask, and give each frame of the answer as it comes. `RuntimeUnreachable` when the agent or
        the way to it ends."""
        self._process.write(encode_request(kind, arguments, body))
        while True:
            try:
                yield read_answer(self._read, kind)
            except OSError as exc:
                raise RuntimeUnreachable(
                    f"the agent on the runtime ended: {exc}", hint="colabdev starts another"
                ) from exc

    def close(self) -> None:
        """End the agent and the connection."""
        with closing(self._connection):
            self._process.close()

    def _read(self, count: int) -> bytes:
        while not self._buffer:
            try:
                output = self._process.read(_LOOK_S)
            except TimeoutError:
                # Nobody else looks after this connection, and a dead one says nothing.
                if not self._connection.is_alive():
                    raise self._connection.lost() from None
                continue
            if output is None:
                return b""
            if output.pipe == "stdout":
                self._buffer = output.data
        piece, self._buffer = self._buffer[:count], self._buffer[count:]
        return piece
