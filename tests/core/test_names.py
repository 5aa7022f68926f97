"""Which names are taken, and which are refused before anything is made of them."""

from __future__ import annotations

import pytest

from colabdev.core.names import check_project_name, check_runtime_name
from colabdev.errors import UsageError


@pytest.mark.parametrize("name", ["a", "local", "my-gpu-2", "a1", "x" * 32, "a--b"])
def test_runtime_name_is_taken(name: str) -> None:
    assert check_runtime_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "1a",
        "-a",
        "a-",
        "x" * 33,
        "a b",
        "a.b",
        "a_b",
        "a\n",
        "a\0",
        "../a",
        "a/b",
        "a*",
        "ä",
        "\u0661",  # A digit, but not one of ours.
        "colabdev\nHost *",
    ],
)
def test_runtime_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_runtime_name(name)
    assert repr(name) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", ["digits", "My Project", "a.b", "-x", "schön-日本語", "drive2"])
def test_project_name_is_taken(name: str) -> None:
    assert check_project_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "drive", "sample_data", "a/b", "/", "a\0b"])
def test_project_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot use"):
        check_project_name(name)
