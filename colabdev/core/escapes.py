"""What `~` at the start of a line means while a job has the keyboard, as in ssh."""

from __future__ import annotations

_TILDE = b"~"
_DETACH = b"."
_LINE_ENDS = b"\r\n"


class Escapes:
    """Takes what was typed, in any pieces, and gives what the job is to get.

    `~.` after a line's end, or at the very start, asks to detach; `~~` is one tilde; a tilde before
    anything else is typed as it stands.
    """

    def __init__(self) -> None:
        self._at_start = True
        self._tilde = False
        self.detached = False
        """`~.` was typed; what came behind it is dropped."""

    def take(self, typed: bytes) -> bytes:
        """The bytes for the job."""
        passed = bytearray()
        for code in typed:
            key = bytes([code])
            if self._tilde:
                self._tilde = False
                if key == _DETACH:
                    self.detached = True
                    break
                passed += _TILDE if key == _TILDE else _TILDE + key
            elif self._at_start and key == _TILDE:
                self._tilde = True
                continue
            else:
                passed += key
            self._at_start = key in _LINE_ENDS
        return bytes(passed)
