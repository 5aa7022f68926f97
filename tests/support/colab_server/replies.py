"""How the stand-in's servers answer: refusals, the XSSI prefix, JSON."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from aiohttp import web

XSSI_PREFIX = ")]}'\n"
JSON_TYPE = "application/json"


def refuse(status: int, message: str) -> NoReturn:
    """End the request with this status."""
    raise Refusal(status, message)


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def response(self) -> web.Response:
        return web.Response(status=self.status, text=str(self))


class Broken(Exception):
    """The connection is gone, and nothing is to be said."""


def xssi_json(document: Any, *, prefix: bool) -> web.Response:
    text = json.dumps(document)
    return web.Response(text=(XSSI_PREFIX if prefix else "") + text, content_type=JSON_TYPE)


def break_connection(request: web.Request) -> NoReturn:
    """End the connection without an answer, as a network that fails does."""
    if request.transport is not None:
        request.transport.abort()
    raise Broken


def number(text: str | None) -> int | None:
    """The decimal number that `text` is; None when it is none."""
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None
