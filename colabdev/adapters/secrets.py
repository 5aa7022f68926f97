"""The system's keyring, which may be absent, locked, or never answer."""

from __future__ import annotations

import logging
import threading

SERVICE = "colabdev"
"""What the keyring files our secrets under: `keyring set colabdev NAME`."""
ANSWER_TIMEOUT_S = 3.0

_log = logging.getLogger(__name__)


def ask_keyring(name: str) -> str | None:
    """The secret of that name; None when the keyring has none, or does not say so in time."""
    answers: list[str | None] = []

    def ask() -> None:
        try:
            import keyring  # noqa: PLC0415  That alone asks the system which keyrings it has.

            answers.append(keyring.get_password(SERVICE, name))
        except Exception as exc:  # noqa: BLE001  Each backend raises what its system raises.
            _log.debug("the keyring does not answer: %s", type(exc).__name__)

    # A daemon: one that waits for somebody to unlock it must not keep us from ending.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_TIMEOUT_S)
    return answers[0] if answers else None
