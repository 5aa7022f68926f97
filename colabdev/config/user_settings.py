"""The user's own settings, `settings.toml` in the configuration directory."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from colabdev.errors import SettingsError

FILE_NAME = "settings.toml"


class UserSettings(BaseModel):
    """The whole of `settings.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accept_free_tier_terms: bool = False
    """Use SSH on a Colab runtime that is free of charge, although Colab's terms forbid it."""


def load_user_settings(config_dir: Path) -> UserSettings:
    """What the file says; without one the defaults. `SettingsError` when it makes no sense."""
    path = config_dir / FILE_NAME
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return UserSettings.model_validate(document)
    except FileNotFoundError:
        return UserSettings()
    except ValidationError as exc:
        fault = exc.errors(include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        cause = f"{place}: {fault['msg'].lower()}"
    except (OSError, ValueError) as exc:
        cause = str(exc)
    raise SettingsError(
        f"cannot use {path}: {cause}",
        hint="mend that line, or remove the file; colabdev auth terms writes it anew",
    )


def render_user_settings(settings: UserSettings) -> str:
    """The file's text."""
    return f"accept_free_tier_terms = {str(settings.accept_free_tier_terms).lower()}\n"
