"""The user's ngrok authtoken: from the environment, else as `auth ngrok` kept it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from colabdev.adapters.secrets import SecretFile
from colabdev.errors import AuthNeeded, UsageError

VARIABLE = "NGROK_AUTHTOKEN"
_PAGE = "https://dashboard.ngrok.com/get-started/your-authtoken"
_FORM = re.compile("[A-Za-z0-9_-]{20,}")


@dataclass(frozen=True, slots=True)
class NgrokTokenPlace:
    """Where the token that would be used is; it is shown nowhere."""

    where: str


class NgrokTokens:
    """`NGROK_AUTHTOKEN`, else the keyring or a private file."""

    def __init__(self, config_dir: Path, environment: Mapping[str, str]) -> None:
        self._file = SecretFile(
            config_dir,
            "ngrok",
            what="your ngrok token",
            renew="colabdev auth ngrok",
            remove="colabdev auth ngrok --remove",
        )
        self._typed = environment.get(VARIABLE, "").strip()

    def token(self) -> str:
        """The token; `AuthNeeded` without one."""
        if self._typed:
            return checked_token(self._typed)
        kept = self._file.load()
        if kept is None:
            raise AuthNeeded(
                "cannot open a tunnel by ngrok: there is no token",
                hint=f"copy it from {_PAGE} and give it to: colabdev auth ngrok",
            )
        return kept[1]["token"]

    def place(self) -> NgrokTokenPlace | None:
        """Where it is; None without one. `AuthNeeded` when the keyring has it and does not answer."""
        if self._typed:
            return NgrokTokenPlace(f"the variable {VARIABLE}")
        kept = self._file.load()
        return None if kept is None else NgrokTokenPlace(kept[2])

    def has_one(self) -> bool:
        """Whether there is one, without asking a keyring, which may ask its user."""
        return bool(self._typed) or self._file.path.exists()

    def keep(self, typed: str) -> NgrokTokenPlace:
        """Keep it, in place of another."""
        return NgrokTokenPlace(self._file.save({}, {"token": checked_token(typed)}))

    def forget(self) -> bool:
        """Whether there was one."""
        return self._file.delete()


def checked_token(typed: str) -> str:
    """The token without what a copied one has around it; `UsageError` when it is none."""
    token = typed.strip().strip("\"'").strip()
    if not _FORM.fullmatch(token):
        raise UsageError(
            "cannot use that as an ngrok token: it is too short, or has other characters than one has",
            hint=f"copy it from {_PAGE}; an API key is something else",
        )
    return token
