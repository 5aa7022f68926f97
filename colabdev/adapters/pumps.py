"""Both output pipes of a process as one bounded queue, so that neither can block the other."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping

from colabdev.models import Output

CHUNK_BYTES = 64 * 1024
_QUEUED_CHUNKS = 32


class OutputQueue:
    """Reads each source in a thread of its own and hands the pieces out in order of arrival.

    The queue is bounded: a consumer that does not read holds the process back instead of filling our
    memory. A source's error travels through the queue and is raised to the consumer.
    """

    def __init__(
        self,
        sources: Mapping[str, Callable[[int], bytes]],
        finished: Callable[[str], None] | None = None,
    ) -> None:
        """Read each of `sources` until it gives b""; `finished` is told of each that is read no more."""
        self._finished = finished
        self._queue: queue.Queue[Output | BaseException | None] = queue.Queue(_QUEUED_CHUNKS)
        self._open_sources = len(sources)
        self._closed = False
        self._threads = [
            threading.Thread(target=self._pump, args=(pipe, read), daemon=True)
            for pipe, read in sources.items()
        ]
        for thread in self._threads:
            thread.start()

    def get(self, timeout_s: float | None) -> Output | None:
        """The next piece; None once all sources ended. TimeoutError after `timeout_s`."""
        while self._open_sources:
            try:
                item = self._queue.get(timeout=timeout_s)
            except queue.Empty:
                raise TimeoutError("no output within the time") from None
            if isinstance(item, Output):
                return item
            self._open_sources -= 1
            if item is not None:
                raise item
        return None

    def is_silent(self) -> bool:
        """Nothing has come that was not handed out: no output, no end, no error."""
        return self._queue.empty()

    def close(self) -> None:
        """Let the threads end although nobody reads any more; their sources must end by themselves."""
        self._closed = True
        while any(thread.is_alive() for thread in self._threads):
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                return  # They wait for a source, not for us.

    def _pump(self, pipe: str, read: Callable[[int], bytes]) -> None:
        end: BaseException | None = None
        try:
            while not self._closed:
                data = read(CHUNK_BYTES)
                if not data:
                    break
                self._queue.put(Output(pipe, data))
        except Exception as exc:  # noqa: BLE001  Carried to the consumer, which raises it.
            end = exc
        if self._finished is not None:
            self._finished(pipe)
        if not self._closed:
            self._queue.put(end)
