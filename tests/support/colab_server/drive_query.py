"""The searches of `files.list`: conditions joined by `and`."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.support.colab_server.drive_cloud import Cloud, DriveFile

Condition = Callable[[DriveFile], bool]

_TEXT = r"'((?:[^'\\]|\\.)*)'"
_PARENT = re.compile(rf"{_TEXT} in parents")
_EQUAL = re.compile(rf"(name|mimeType) (=|!=|contains) {_TEXT}")
_TRASHED = re.compile(r"trashed ?(=|!=) ?(true|false)")
_PROPERTY = re.compile(rf"appProperties has \{{ ?key={_TEXT} and value={_TEXT} ?\}}")
_AND = re.compile(r"\s+and\s+")


def parse_query(text: str, cloud: Cloud) -> Condition | None:
    """What a file must fulfil; None for a query that we do not understand."""
    rest, conditions = text.strip(), []
    while rest:
        for pattern, make in _CONDITIONS:
            if (match := pattern.match(rest)) is not None:
                conditions.append(make(match, cloud))
                rest = rest[match.end() :]
                break
        else:
            return None
        if rest and (joint := _AND.match(rest)) is not None:
            rest = rest[joint.end() :]
        elif rest:
            return None
    return lambda file: all(condition(file) for condition in conditions)


def _in_parents(match: re.Match[str], cloud: Cloud) -> Condition:
    parent = cloud.resolve(match[1])
    return lambda file: file.parent == parent


def _compares(match: re.Match[str], _: Cloud) -> Condition:
    field, operator = match[1], match[2]
    wanted = re.sub(r"\\(.)", r"\1", match[3])

    def holds(file: DriveFile) -> bool:
        value = file.name if field == "name" else file.mime_type
        if operator == "contains":
            return wanted in value
        return (value == wanted) == (operator == "=")

    return holds


def _is_trashed(match: re.Match[str], _: Cloud) -> Condition:
    wanted = (match[2] == "true") == (match[1] == "=")
    return lambda file: file.trashed == wanted


def _has_property(match: re.Match[str], _: Cloud) -> Condition:
    key, value = match[1], match[2]
    return lambda file: file.app_properties.get(key) == value


_CONDITIONS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], Cloud], Condition]], ...] = (
    (_PARENT, _in_parents),
    (_EQUAL, _compares),
    (_TRASHED, _is_trashed),
    (_PROPERTY, _has_property),
)
