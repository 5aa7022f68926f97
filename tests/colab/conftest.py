"""A user's computer, and the stand-in for Google that it is led to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.colab_server.conftest import namespaces, server
from tests.support.colab import Colab
from tests.support.colab_continuing import LIMITED
from tests.support.colab_user import ColabHouse
from tests.support.recovering import TRAINER, settle

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


@pytest.fixture
def ready(house: ColabHouse) -> Iterator[ColabHouse]:
    """Logged in, in a project whose training resumes exactly."""
    house.log_in_by_gcloud()
    settle(house, LIMITED)
    (house.project / "train.py").write_text(f"{TRAINER}sys.exit(3)\n")
    yield house
    house.end_keeper("colab")
