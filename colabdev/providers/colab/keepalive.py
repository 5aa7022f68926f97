"""Holds a kernel websocket of a runtime open, for Colab takes a runtime without one back."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable

from colabdev.errors import ColabdevError
from colabdev.providers.colab.client import ColabClient
from colabdev.providers.colab.kernel import open_channels, start_kernel
from colabdev.providers.colab.websockets import Closed, WebSocket

log = logging.getLogger(__name__)

RETRY_FIRST_S = 1.0
RETRY_CAP_S = 60.0
_LOOK_S = 1.0
_KERNEL_TIMEOUT_S = 30.0


class KeepAlive:
    """Runs on a thread of its own until stopped. `is_wanted` says whether the runtime is still to be
    kept; where it is not, the websocket is closed, and opened again when it is."""

    def __init__(
        self, client: ColabClient, endpoint: str, *, is_wanted: Callable[[], bool]
    ) -> None:
        self._client = client
        self.endpoint = endpoint
        self._is_wanted = is_wanted
        self._stopping = threading.Event()
        self._kernel_id = ""
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def is_running(self) -> bool:
        """It ends by itself when the runtime is gone."""
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        delay_s = RETRY_FIRST_S
        while not self._stopping.is_set():
            if not self._is_wanted():
                self._stopping.wait(_LOOK_S)
                continue
            try:
                websocket = self._open()
            except ColabdevError as exc:
                log.warning("cannot hold the kernel of %s: %s", self.endpoint, exc.message)
                self._kernel_id = ""  # It may be another one by now.
                self._stopping.wait(delay_s)
                delay_s = min(delay_s * 2, RETRY_CAP_S)
                continue
            except Exception:  # A task's boundary: the connection is worth more.
                log.exception("bug while holding a kernel")
                return
            if websocket is None:
                return
            delay_s = RETRY_FIRST_S
            log.info("holding the kernel of %s", self.endpoint)
            self._hold(websocket)
            self._stopping.wait(RETRY_FIRST_S)

    def _open(self) -> WebSocket | None:
        """A websocket with a new token; None when the runtime is gone."""
        assignment = self._client.find(self.endpoint)
        if assignment is None:
            return None
        if not self._kernel_id:
            self._kernel_id = start_kernel(assignment, timeout_s=_KERNEL_TIMEOUT_S)
        return open_channels(assignment, self._kernel_id, uuid.uuid4().hex)

    def _hold(self, websocket: WebSocket) -> None:
        """Until it breaks or is not wanted any more. What comes is for others, who asked for it."""
        try:
            while not self._stopping.is_set() and self._is_wanted():
                try:
                    websocket.recv(timeout=_LOOK_S)
                except TimeoutError:
                    continue
        except (Closed, OSError):
            log.info("the kernel's websocket of %s broke", self.endpoint)
        finally:
            websocket.close()
