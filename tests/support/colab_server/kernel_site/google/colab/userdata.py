"""The user's secrets."""

from __future__ import annotations

from typing import Any

from . import _message
from .errors import Error

_TIMEOUT_S = 10


class SecretNotFoundError(Error):
    """There is no such secret."""


class NotebookAccessError(Error):
    """The user has not let this notebook see it."""


class TimeoutException(Error):
    """The client did not answer."""


def get(key: str) -> Any:
    """The secret of that name."""
    answer = _message.blocking_request("GetSecret", {"key": key}, timeout_sec=_TIMEOUT_S)
    if not answer:
        raise TimeoutException(
            f"Requesting secret {key} timed out. Secrets can only be fetched "
            "when running from the Colab UI."
        )
    if not answer.get("exists", False):
        raise SecretNotFoundError(f"Secret {key} does not exist.")
    if not answer.get("access", False):
        raise NotebookAccessError(f"Notebook does not have access to secret {key}")
    return answer.get("payload", "")
