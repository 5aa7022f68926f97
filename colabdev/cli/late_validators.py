"""Typer's validators, built when a value needs one.

HACK: Typer 0.29 builds a validator for every option of the command that is typed, also for those that
are not given, with pydantic, whose import takes as long as Typer's own. The way out is Typer's: coerce
nothing before it asks for the validator. Where it has no such function any more nothing is changed, and
the test of what a command loads tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer.core

_BUILD = "build_runtime_param"


def build_validators_late() -> None:
    """From now on no validator is built for what is absent, or is a text and to be one."""
    build = getattr(typer.core, _BUILD, None)
    if build is not None and not isinstance(build, _Late):
        setattr(typer.core, _BUILD, _Late(build))


class _Late:
    def __init__(self, build: Callable[[Any], Any]) -> None:
        self._build = build

    def __call__(self, descriptor: Any) -> _Validator:
        return _Validator(self._build, descriptor)


class _Validator:
    """In place of Typer's own, which it becomes when it has something to do."""

    def __init__(self, build: Callable[[Any], Any], descriptor: Any) -> None:
        self._build = build
        self._descriptor = descriptor

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as the command's function takes it."""
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        kind = self._descriptor.annotation
        if kind is str and isinstance(value, str):
            return value
        if kind == list[str] and isinstance(value, (list, tuple)):
            return list(value)
        return self._build(self._descriptor).coerce(value, param=param, ctx=ctx)
