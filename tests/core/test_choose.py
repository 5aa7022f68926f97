"""Which runtime a command means."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from colabdev.core.choose import choose_runtime
from colabdev.errors import RuntimeNotFound, UsageError
from colabdev.models import ProjectLink, RuntimeRecord
from tests.support.records import MOMENT, make_record


def record(name: str, **connected_s: int) -> RuntimeRecord:
    """A runtime, and how long after the epoch of these tests each project connected to it."""
    links = tuple(
        ProjectLink(f"/p/{project}", f"/content/{project}", MOMENT + timedelta(seconds=seconds))
        for project, seconds in connected_s.items()
    )
    return replace(make_record(name), projects=links)


@pytest.mark.parametrize(
    ("records", "named", "project", "chosen"),
    [
        ([record("a")], None, None, "a"),
        ([record("a")], None, "/p/x", "a"),
        ([record("a", x=1)], None, "/p/y", "a"),
        ([record("a"), record("b")], "b", None, "b"),
        # The name given wins over the project's own.
        ([record("a", x=9), record("b")], "b", "/p/x", "b"),
        ([record("a", x=1), record("b", x=2)], None, "/p/x", "b"),
        ([record("a", x=2), record("b", x=1)], None, "/p/x", "a"),
        # Another project's later connection says nothing.
        ([record("a", x=1), record("b", y=9)], None, "/p/x", "a"),
        ([record("a", x=1, y=5), record("b", x=3, y=4)], None, "/p/y", "a"),
    ],
)
def test_runtime_is_chosen(
    records: list[RuntimeRecord], named: str | None, project: str | None, chosen: str
) -> None:
    assert choose_runtime(records, named=named, project_path=project).name == chosen


@pytest.mark.parametrize("project", [None, "/p/x"])
def test_no_runtime_at_all_is_said(project: str | None) -> None:
    with pytest.raises(RuntimeNotFound) as caught:
        choose_runtime([], named=None, project_path=project)
    assert caught.value.message == "no runtime is up"
    assert caught.value.hint.startswith("colabdev connect")


@pytest.mark.parametrize("project", [None, "/p/z"])
def test_several_runtimes_must_be_told_apart(project: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        choose_runtime([record("a", x=1), record("b", y=2)], named=None, project_path=project)
    assert "a, b" in caught.value.message
    assert "-r a" in caught.value.hint


@pytest.mark.parametrize(
    ("records", "named", "sentence", "hint"),
    [
        ([record("local")], "lcal", "no runtime is called 'lcal'; did you mean 'local'?", "status"),
        ([record("local")], "zzz", "no runtime is called 'zzz'", "status"),
        ([], "local", "no runtime is called 'local'", "connect"),
    ],
)
def test_unknown_name_is_said_with_the_nearest(
    records: list[RuntimeRecord], named: str, sentence: str, hint: str
) -> None:
    with pytest.raises(RuntimeNotFound) as caught:
        choose_runtime(records, named=named, project_path=None)
    assert caught.value.message == sentence
    assert hint in caught.value.hint
