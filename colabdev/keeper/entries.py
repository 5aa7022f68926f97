"""The host entry, kept true while the runtime's address changes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from colabdev.errors import ColabdevError
from colabdev.models import Phase, RuntimeRecord, SshAddress
from colabdev.ports import HostEntries

log = logging.getLogger(__name__)

_LOOK_INTERVAL_S = 1.0


class EntryFollower:
    """Writes the host entry when the record has another address: editors and ssh read it anew for each
    connection, so that they reach the same name again wherever the runtime went."""

    def __init__(self, load: Callable[[], RuntimeRecord | None], entries: HostEntries) -> None:
        self._load = load
        self._entries = entries
        self._written: SshAddress | None = None
        self._complaint = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Follow, in a thread, until `stop`."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """No entry is written after this, unless one write takes longer: whoever releases the runtime
        takes its entry out next."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            try:
                self._look()
            except ColabdevError as exc:
                if exc.message != self._complaint:
                    log.warning("the host entry does not follow: %s", exc.message)
                self._complaint = exc.message
            except Exception:  # A task's boundary: the keeper is of use without an entry.
                log.exception("bug while writing the host entry")
                return
            if self._stopping.wait(_LOOK_INTERVAL_S):
                return

    def _look(self) -> None:
        record = self._load()
        if record is None or record.phase is Phase.RELEASING:
            return
        address = record.ssh
        if address is not None and address != self._written:
            self._entries.write(record)
            if self._written is not None:
                log.info("the host entry leads to %s:%d now", address.host, address.port)
            self._written = address
            self._complaint = ""
