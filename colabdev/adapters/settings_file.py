"""The user's own settings on disk."""

from __future__ import annotations

from pathlib import Path

from colabdev.adapters.files import make_private_directory, not_writable, write_atomic
from colabdev.config.user_settings import FILE_NAME, UserSettings, render_user_settings

_WHAT = "your settings"
_VARIABLE = "COLABDEV_CONFIG_DIR"


def write_user_settings(config_dir: Path, settings: UserSettings) -> None:
    """Replace the settings file; `StateNotWritable` when that is impossible."""
    make_private_directory(config_dir, what=_WHAT, variable=_VARIABLE)
    try:
        write_atomic(config_dir / FILE_NAME, render_user_settings(settings).encode("ascii"))
    except OSError as exc:
        raise not_writable(config_dir, exc, what=_WHAT, variable=_VARIABLE) from exc
