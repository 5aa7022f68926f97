"""Signing the user in on the runtime."""

from __future__ import annotations

import os

from . import _message, errors


def authenticate_user(clear_output: bool = True, project_id: str | None = None) -> None:
    """Give the runtime the user's credentials: through the client, or with a code typed here."""
    if os.environ.get("USE_AUTH_EPHEM", "0") == "1":
        request = {"authType": "auth_user_ephemeral"}
        _message.blocking_request("request_auth", request, timeout_sec=None)
    else:
        print("Go to the following link in your browser: https://accounts.google.com/o/oauth2/auth")
        if not input("Once finished, enter the verification code provided in your browser: "):
            raise errors.AuthorizationError("Error fetching credentials")
    if project_id:
        os.environ["GOOGLE_CLOUD_PROJECT"] = project_id
