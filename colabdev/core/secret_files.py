"""Files that programs keep secrets in, as far as their names tell."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Texts, compiled when a file goes somewhere for the first time: most syncs send none that is new.
_NAMES = (
    r".*\.env(?:\..+)?|\.envrc|[._]netrc|\.pgpass|\.pypirc|\.htpasswd|\.git-credentials"
    r"|credentials(?:\.json)?|secrets\.(?:toml|json|ya?ml)|kaggle\.json"
    r"|client_secrets?.*\.json|.*service[-_]account.*\.json"
    r"|id_(?:rsa|dsa|ecdsa|ed25519)|.+\.(?:pem|key|p12|pfx|ppk|jks)"
)
_FOR_EVERYBODY = r"(?:.*[._-])?(?:example|sample|template|dist|public)(?:[._-].*)?"
_NAMED = 3


def holds_secrets(path: str) -> bool:
    """Whether a file of that name is one that programs keep secrets in; patterns for others are not."""
    name = path.rpartition("/")[2].lower()
    return re.fullmatch(_NAMES, name) is not None and not re.fullmatch(_FOR_EVERYBODY, name)


def describe_secret_files(paths: Iterable[str], *, has_drive: bool) -> str:
    """That those of the files go where the project goes, and what keeps them; "" when there are none."""
    found = sorted(filter(holds_secrets, paths))
    if not found:
        return ""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    names = ", ".join(found[:_NAMED]) + more
    where = "to the runtime and to Drive" if has_drive else "to the runtime"
    if len(found) == 1:
        return (
            f"{names} may hold secrets, and goes {where}; a line in .colabdevignore keeps it here"
        )
    return f"{names} may hold secrets, and go {where}; lines in .colabdevignore keep them here"
