"""A user's computer, and the stand-in for Google that it is led to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.colab_server.conftest import namespaces, server
from tests.support.colab import Colab
from tests.support.colab_user import ColabHouse

__all__ = ["namespaces", "server"]

VISIT = Path(__file__).parents[1] / "support" / "visit.py"


@pytest.fixture
def colab(server: Colab) -> Colab:
    """As at the start, without a runtime."""
    server.reset()
    return server


@pytest.fixture
def house(colab: Colab, tmp_path: Path) -> Iterator[ColabHouse]:
    """A computer without a login."""
    with ColabHouse(tmp_path, colab, browser=f"{sys.executable} {VISIT} %s") as house:
        yield house
