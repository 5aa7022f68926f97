"""Computers for the tests of jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.house import House


@pytest.fixture
def own_house(tmp_path: Path) -> Iterator[House]:
    """A computer for a test that breaks something."""
    with House(tmp_path) as house:
        house.connect()
        yield house
