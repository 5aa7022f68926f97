"""A few secret strings of the user: in the system's keyring if that answers, else in a private file.

The only module that knows keyring.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import keyring
import keyring.backends.fail
import keyring.backends.null
import keyring.errors

from colabdev.adapters.files import make_private_directory, not_writable, write_atomic
from colabdev.errors import AuthNeeded, ColabdevError

KEYRING_TIMEOUT_S = 3.0
SERVICE = "colabdev"
"""What the keyring files our secrets under: `keyring set colabdev NAME`."""
_VARIABLE = "COLABDEV_CONFIG_DIR"
_SCHEMA = 1
_KEYRING, _FILE = "keyring", "file"

ValueT = TypeVar("ValueT")

_log = logging.getLogger(__name__)


class _NoAnswer(Exception):
    """There is no keyring, or it does not answer in time."""


def ask_keyring(name: str) -> str | None:
    """The secret of that name; None when the keyring has none, or does not say so in time."""
    try:
        return _ask(lambda: keyring.get_password(SERVICE, name))
    except _NoAnswer as exc:
        _log.debug("the keyring does not answer: %s", exc)
        return None


class SecretFile:
    """One JSON document whose secret half lies in the keyring where there is one.

    `name` is both the file's, below the configuration directory, and the keyring's entry.
    """

    def __init__(
        self,
        config_dir: Path,
        name: str,
        *,
        what: str = "your login",
        renew: str = "colabdev auth login",
        remove: str = "colabdev auth logout",
    ) -> None:
        """`what` it is, and the commands that make it anew and remove it, are for the user."""
        self._directory = config_dir
        self._name = name
        self._what, self._renew, self._remove = what, renew, remove
        self.path = config_dir / f"{name}.json"

    def save(self, public: Mapping[str, Any], secret: Mapping[str, str]) -> str:
        """Keep both, in place of what was kept; returns where the secret half is now."""
        text = json.dumps(dict(secret))
        document: dict[str, Any] = {"schema": _SCHEMA, **public}
        try:
            # Asked for again, because some backends take everything and keep nothing.
            _ask(lambda: keyring.set_password(SERVICE, self._name, text))
            kept = _ask(lambda: keyring.get_password(SERVICE, self._name))
        except _NoAnswer:
            kept = None
        if kept == text:
            document["store"] = _KEYRING
        else:
            document |= {"store": _FILE, "secret": dict(secret)}
        make_private_directory(self._directory, what=self._what, variable=_VARIABLE)
        try:
            write_atomic(self.path, json.dumps(document, indent=1).encode("ascii") + b"\n")
        except OSError as exc:
            raise not_writable(self._directory, exc, what=self._what, variable=_VARIABLE) from exc
        return self._where(document)

    def load(self) -> tuple[dict[str, Any], dict[str, str], str] | None:
        """The public half, the secret half and where that is; None when nothing is kept.

        `AuthNeeded` when the keyring has it and does not answer, `ColabdevError` for a damaged file.
        """
        document = self._read()
        if document is None:
            return None
        if document["store"] == _FILE:
            return document, dict(document["secret"]), self._where(document)
        try:
            text = _ask(lambda: keyring.get_password(SERVICE, self._name))
        except _NoAnswer as exc:
            raise AuthNeeded(
                f"cannot read {self._what}: the system's keyring has it and does not answer ({exc})",
                hint=f"unlock the keyring, or give it again: {self._renew}",
            ) from exc
        if text is None:
            raise AuthNeeded(
                f"{self._what} is not in the system's keyring any more", hint=self._renew
            )
        return document, json.loads(text), self._where(document)

    def delete(self) -> bool:
        """Forget both halves; whether there was anything."""
        try:
            document = self._read()
        except ColabdevError:
            document = {"store": _KEYRING}  # Whatever it said, nothing of it stays.
        if document is None:
            return False
        if document["store"] == _KEYRING:
            try:
                _ask(lambda: _delete_password(self._name))
            except _NoAnswer as exc:
                raise ColabdevError(
                    f"cannot take {self._what} out of the system's keyring: {exc}",
                    hint="unlock the keyring, then type the command again",
                ) from exc
        self.path.unlink(missing_ok=True)
        return True

    def _read(self) -> dict[str, Any] | None:
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
            if document["store"] == _FILE:
                dict(document["secret"])
            elif document["store"] != _KEYRING:
                raise ValueError(f"it names a store {document['store']!r}")
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise ColabdevError(
                f"cannot read {self._what} in {self.path}: {exc}",
                hint=f"{self._remove} removes it, {self._renew} makes it anew",
            ) from exc
        assert isinstance(document, dict)
        return document

    def _where(self, document: Mapping[str, Any]) -> str:
        if document["store"] == _KEYRING:
            return "the system's keyring"
        return str(self.path)


def _delete_password(name: str) -> None:
    with contextlib.suppress(keyring.errors.PasswordDeleteError):  # It was not there.
        keyring.delete_password(SERVICE, name)


def _ask(question: Callable[[], ValueT]) -> ValueT:
    """The keyring's answer; `_NoAnswer` without one in time. A keyring may wait for its user for ever,
    so it is asked on a thread that nobody waits for."""
    answers: list[ValueT] = []
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            backend = keyring.get_keyring()
            nothing = (keyring.backends.fail.Keyring, keyring.backends.null.Keyring)
            if isinstance(backend, nothing):
                raise _NoAnswer("there is none")
            answers.append(question())
        except Exception as exc:  # noqa: BLE001  A backend raises what its system does.
            failures.append(exc)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(KEYRING_TIMEOUT_S)
    if answers:
        return answers[0]
    if failures:
        raise _NoAnswer(str(failures[0]) or type(failures[0]).__name__) from failures[0]
    raise _NoAnswer(f"no answer within {KEYRING_TIMEOUT_S:.0f} s")
