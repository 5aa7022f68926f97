"""Keyrings of a system, for PYTHON_KEYRING_BACKEND: one that works, one that waits for its user."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import keyring.errors
from keyring.backend import KeyringBackend


class Working(KeyringBackend):
    """Keeps its passwords in the file that KEYRING_FILE names."""

    priority = 1

    def get_password(self, service: str, username: str) -> str | None:
        return self._read().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self._write({**self._read(), f"{service} {username}": password})

    def delete_password(self, service: str, username: str) -> None:
        kept = self._read()
        if kept.pop(f"{service} {username}", None) is None:
            raise keyring.errors.PasswordDeleteError
        self._write(kept)

    def _read(self) -> dict[str, str]:
        file = Path(os.environ["KEYRING_FILE"])
        kept: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        return kept

    def _write(self, kept: dict[str, str]) -> None:
        Path(os.environ["KEYRING_FILE"]).write_text(json.dumps(kept))


class Waiting(Working):
    """Asks its user to unlock it, who has gone to lunch."""

    def get_password(self, service: str, username: str) -> str | None:
        time.sleep(3600)
        return None

    def set_password(self, service: str, username: str, password: str) -> None:
        time.sleep(3600)
