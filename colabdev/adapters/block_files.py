"""Blocks of large files, each version in a file named by its digest. Only a cache."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from colabdev.adapters.files import write_cache
from colabdev.agent.blocks import Signature, signature_from_bytes

log = logging.getLogger(__name__)


class BlockFiles:
    """The signatures in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def has(self, digest: str) -> bool:
        return (self._directory / digest).exists()

    def load(self, digest: str) -> Signature | None:
        """The signature of that version, if it is known."""
        try:
            return signature_from_bytes((self._directory / digest).read_bytes())
        except (OSError, ValueError):
            return None

    def save(self, digest: str, signature: Signature) -> None:
        write_cache(self._directory / digest, signature.to_bytes())

    def forget_all_but(self, digests: Iterable[str]) -> None:
        kept = set(digests)
        try:
            for file in self._directory.iterdir():
                if file.name not in kept:
                    file.unlink(missing_ok=True)
        except OSError as exc:
            log.debug("cannot look into %s: %s", self._directory, exc)
