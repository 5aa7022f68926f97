"""Values out of JSON that somebody else wrote; TypeError for what is none of that kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def text(value: object) -> str:
    """A text."""
    if not isinstance(value, str):
        raise TypeError(repr(value))
    return value


def optional_text(value: object) -> str | None:
    """A text, or nothing."""
    return None if value is None else text(value)


def whole_number(value: object) -> int | None:
    """A whole number, or nothing."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise TypeError(repr(value))
    return value


def optional_count(value: object) -> int | None:
    """A whole number that is not below 0, or nothing."""
    number = whole_number(value)
    if number is not None and number < 0:
        raise TypeError(repr(value))
    return number


def count(value: object) -> int:
    """A whole number that is not below 0."""
    number = optional_count(value)
    if number is None:
        raise TypeError(repr(value))
    return number


def optional_number(value: object) -> float | None:
    """A number, or nothing."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(repr(value))
    return float(value)


def optional_amount(value: object) -> float | None:
    """A number that is not below 0, or nothing."""
    number = optional_number(value)
    if number is not None and not number >= 0:
        raise TypeError(repr(value))
    return number


def listing(value: object) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise TypeError(repr(value))
    return value


def mapping(value: object) -> Mapping[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise TypeError(repr(value))
    return value


def texts(value: object) -> dict[str, str]:
    """An object of texts."""
    return {text(name): text(one) for name, one in mapping(value).items()}
