"""Editors of this computer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Editor:
    """An editor's command on this computer's PATH."""

    command: str
    version: str
    """"" when it did not say."""
    extensions: frozenset[str] | None
    """Their ids in lower case; None when it did not say."""


@dataclass(frozen=True, slots=True)
class EditorKind:
    """One of the editors that are made from VS Code."""

    command: str
    title: str
    extensions: Sequence[str]
    """Those that bring it to an SSH host; the first is the one to install."""
    server_folder: str
    """Where it puts its server below the home there."""
    mac_app: str
    settings_folder: str
    """Of its user settings, among those of all programs."""
