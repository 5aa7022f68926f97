"""What goes wrong on purpose: set and taken back while the stand-in runs, by `POST /faults`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NAMES = {
    "assign_status": "HTTP status of POST assign: 400, 412, 429, 502, 503, …",
    "assign_outcome": "`outcome` of POST assign, with HTTP 200 and no endpoint: 1, 2 or 5",
    "assign_gives": "the accelerator that POST assign gives, whatever was asked for",
    "assign_delay_s": "how long POST assign takes",
    "ambiguous_assign": "POST assign makes the runtime, and then the connection breaks",
    "no_xssi": "answers come without the XSSI prefix",
    "no_ssh": "runtimes are made without SSH: /colab/ssh is 404",
    "unassign_status": "HTTP status of POST unassign",
    "list_gives": "the whole body of assignments, with HTTP 200: empty, or in a form that is new",
    "list_lags": "assignments still has the runtime that was given back last",
    "backend_status": "HTTP status of everything below /tun/m",
    "captcha": "GET assign says that a browser should show a reCAPTCHA",
    "token_error": "error code of the token endpoint, such as invalid_grant",
    "propagation_status": "HTTP status of POST credentials-propagation; 400 is the wrong account",
    "proxy_status": "HTTP status of everything on a runtime's proxy",
    "proxy_delay_s": "how long the proxy waits before it answers HTTP",
    "websocket_delay_s": "how long the proxy waits before it opens a websocket",
    "ssh_busy": "/colab/ssh says 429 although nobody is connected",
    "ssh_status": "HTTP status of /colab/ssh: 403, 502, …",
    "mount_failure": "drive.mount fails: `timeout`, `disabled` or any text for its log",
    "kernel_crash": "drive.mount, and with it its kernel, dies by SIGKILL",
    "drive_stalled": "what is written on a mount is not uploaded",
    "drive_lies": "what is written on a mount is said to be in the cloud, and is not",
    "drive_corrupts": "what is written on a mount reaches the cloud with a flipped bit",
    "drive_status": "HTTP status of the Drive API: 403 (rate limit), 429, 500, 503",
    "drive_quota": "the Drive API refuses uploads: the storage quota is exceeded",
    "drive_breaks_upload": "a chunk of a resumable upload is stored by half, and then answered with "
    "this HTTP status, or for 0 not at all",
}
"""Each fault's name and what its value means."""


@dataclass(slots=True)
class Fault:
    value: Any
    times: int | None
    """How often it still strikes; None: until it is taken back."""


class Faults:
    def __init__(self) -> None:
        self._set: dict[str, Fault] = {}
        self.struck: dict[str, int] = {}
        """How often each was met."""

    def set(self, name: str, value: Any, times: int | None) -> None:
        """KeyError for a name that is none; a value of None takes the fault back."""
        if name not in NAMES:
            raise KeyError(name)
        if value is None:
            self._set.pop(name, None)
        else:
            self._set[name] = Fault(value, times)

    def take(self, name: str) -> Any:
        """The fault's value, which counts as having struck; None when all is well."""
        assert name in NAMES
        fault = self._set.get(name)
        if fault is None:
            return None
        self.struck[name] = self.struck.get(name, 0) + 1
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                del self._set[name]
        return fault.value

    def clear(self) -> None:
        self._set.clear()
        self.struck.clear()

    def describe(self) -> dict[str, Any]:
        return {
            name: {"value": fault.value, "times": fault.times} for name, fault in self._set.items()
        }
